"""What a training step gains by memory that stays with the process when it is freed.

python benchmarks/kept_memory.py [--models resnet18 vit_tiny_patch16_224] [--rounds 9]

The program `fieldmark` tells glibc to keep freed blocks (cli/program.py). In one process, turns of
three steps (128 px, batch 32, bf16, random tensors) with that and with what glibc comes to by
itself follow each other: CPU seconds a step, of the program and of the system, and their ratio.
"""

from __future__ import annotations

import argparse
import ctypes
import resource
import statistics

import torch

from fieldmark.models.classifier import build_classifier
from fieldmark.models.vit.plain_attention import take_plain_attention
from fieldmark.recipes.schema import Model, Optim
from fieldmark.training.layout import choose_memory_format
from fieldmark.training.optimizers import build_optimizer

SIZE, BATCH, STEPS = 128, 32, 3
TRIM, MMAP = -1, -3  # as in malloc.h
LIMITS = {"kept": (2**28, 2**28), "given back": (2**26, 2**25)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["resnet18", "vit_tiny_patch16_224"])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    for name in options.models:
        tell(name, measure(name, options.rounds))


def measure(name: str, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """User and system seconds a step, by turn."""
    libc = ctypes.CDLL(None)
    classifier, _ = build_classifier(Model(name=name), num_classes=10, image_size=SIZE)
    classifier.to(memory_format=choose_memory_format(classifier.backbone, SIZE))
    take_plain_attention(classifier.backbone, SIZE)
    optimizer = build_optimizer(classifier, Optim(name="sgd", lr=0.01))
    images, targets = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(0, 10, (BATCH,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(classifier(images).float(), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    spent: dict[str, list[tuple[float, float]]] = {way: [] for way in LIMITS}
    for turn in range(rounds):
        for way in list(LIMITS) if turn % 2 else reversed(LIMITS):
            trim, mmap = LIMITS[way]
            libc.mallopt(TRIM, trim)
            libc.mallopt(MMAP, mmap)
            libc.malloc_trim(0)
            step()
            before = resource.getrusage(resource.RUSAGE_SELF)
            for _ in range(STEPS):
                step()
            after = resource.getrusage(resource.RUSAGE_SELF)
            user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
            spent[way].append((user / STEPS, system / STEPS))
    return spent


def tell(name: str, spent: dict[str, list[tuple[float, float]]]) -> None:
    for way, turns in spent.items():
        user, system = (statistics.median(part) for part in zip(*turns, strict=True))
        print(f"{name}, {way}: {user:.3f} CPU s a step, and {system:.3f} of the system")
    pairs = zip(spent["kept"], spent["given back"], strict=True)
    ratios = sorted(sum(kept) / sum(given) for kept, given in pairs)
    print(f"{name}: {statistics.median(ratios):.3f} ({ratios[0]:.3f} - {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
