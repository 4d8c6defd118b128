"""One training step as fieldmark takes it, against the plain step, trick by trick.

python benchmarks/training_step.py [--models resnet18 vit_tiny_patch16_224] [--size 128]
    [--batch 32] [--repeats 9] [--threads N] [--device cpu|cuda] [--compile] [--json FILE]
python benchmarks/training_step.py --profile                where the time of fieldmark's step goes

Variants take turns on random tensors; a cell is the median of the seconds (on a CPU those of the
process, all threads together, which other programs disturb less), the gain the median of the ratios
to "plain" within a turn. "plain" is eager fp32, channels first, an optimizer that is not
fused. --compile adds the compiled network, and tells how long compiling took. On a GPU each step
is synchronised. --profile tells of fieldmark's step on a CPU how long its convolutions and products
take, and how many 10^9 multiply-adds they do a second (`multiply_rates.py` has the limit).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from fieldmark.cli.program import keep_freed_memory
from fieldmark.models.classifier import build_classifier
from fieldmark.models.side_by_side import lay_side_by_side, multiplies_in_tiles
from fieldmark.models.vit.plain_attention import take_plain_attention
from fieldmark.recipes.schema import Model, Optim
from fieldmark.training.compiling import compile_network
from fieldmark.training.layout import choose_memory_format
from fieldmark.training.optimizers import build_optimizer


@dataclass(frozen=True)
class Variant:
    """What is switched on."""

    name: str
    bf16: bool = False
    laid_out: bool = False
    fused: bool = False
    compiled: bool = False


VARIANTS = (
    Variant("plain"),
    Variant("fused", fused=True),
    Variant("laid out", laid_out=True),
    Variant("bf16", bf16=True),
    Variant("all (fieldmark)", bf16=True, laid_out=True, fused=True),
)
COMPILED = Variant("all + compile", bf16=True, laid_out=True, fused=True, compiled=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["resnet18", "vit_tiny_patch16_224"])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as the program does; the plain step gets the same
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.profile:
        for model in options.models:
            show_profile(model, options)
        return
    rows = []
    for model in options.models:
        print(f"\n{model}, {options.size} px, batch {options.batch}, {options.device}\n")
        print("| step | seconds | images/s | faster than plain |\n|---|---|---|---|", flush=True)
        for name, seconds, gain in measure(model, options):
            speed = options.batch / seconds
            rows.append({"model": model, "step": name, "seconds": seconds, "gain": gain})
            print(f"| {name} | {seconds:.4f} | {speed:.0f} | {gain:.2f}x |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def measure(model: str, options: argparse.Namespace) -> list[tuple[str, float, float]]:
    """(variant, median seconds, median ratio plain / variant)."""
    variants = (*VARIANTS, *([COMPILED] if options.compile else []))
    steps = [build_step(model, variant, options) for variant in variants]
    for variant, step in zip(variants, steps, strict=True):
        start = time.perf_counter()
        step()
        if variant.compiled:
            print(f"(compiling took {time.perf_counter() - start:.0f} s)")
        step()
    seconds: list[list[float]] = [[] for _ in steps]
    read_clock = time.process_time if options.device == "cpu" else time.perf_counter
    for _ in range(options.repeats):
        for step, found in zip(steps, seconds, strict=True):
            start = read_clock()
            step()
            found.append(read_clock() - start)
    return [
        (
            variant.name,
            statistics.median(found),
            statistics.median(p / f for p, f in zip(seconds[0], found, strict=True)),
        )
        for variant, found in zip(variants, seconds, strict=True)
    ]


def build_step(model: str, variant: Variant, options: argparse.Namespace) -> Callable[[], None]:
    """Forward, backward and update of one fixed batch."""
    torch.manual_seed(0)
    classifier, _ = build_classifier(Model(name=model), num_classes=10, image_size=options.size)
    if variant.laid_out:
        layout = choose_memory_format(classifier.backbone, options.size)
        classifier.to(memory_format=layout)  # type: ignore[call-overload]
        if variant.bf16 and options.device == "cpu":
            take_plain_attention(classifier.backbone, options.size)
            if layout == torch.channels_last and multiplies_in_tiles():
                lay_side_by_side(classifier.backbone)
    classifier.to(options.device).train()
    optimizer = build_optimizer(classifier, Optim(name="sgd", lr=1e-3))
    for group in optimizer.param_groups:
        group["fused"] = variant.fused
        group["foreach"] = False if not variant.fused and options.device == "cpu" else None
    network: nn.Module = classifier
    if variant.compiled:
        network = compile_network(classifier, options.device)
    images = torch.randn(options.batch, 3, options.size, options.size, device=options.device)
    targets = (torch.arange(options.batch) % 10).to(options.device)

    def step() -> None:
        with torch.autocast(options.device, torch.bfloat16, enabled=variant.bf16):
            logits = network(images)
        nn.functional.cross_entropy(logits.float(), targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if options.device == "cuda":
            torch.cuda.synchronize()

    return step


def show_profile(model: str, options: argparse.Namespace) -> None:
    """One line for each kind of multiplication in fieldmark's step."""
    step = build_step(model, VARIANTS[-1], options)
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(options.repeats):
            step()
    events = {event.key: event for event in found.key_averages()}
    whole = sum(event.self_cpu_time_total for event in events.values()) / options.repeats / 1e6
    print(f"\n{model}, {options.size} px, batch {options.batch}: {whole:.3f} s a step\n")
    print("| operation | of the step | GMAC | GMAC/s |\n|---|---|---|---|")
    for operation, flops in counter.get_flop_counts()["Global"].items():
        event = events[str(operation).replace(".", "::")]
        seconds, macs = event.cpu_time_total / options.repeats / 1e6, flops / 2e9
        cells = (f"{seconds / whole:.0%}", f"{macs:.2f}", f"{macs / seconds:.0f}")
        print(f"| {event.key} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
