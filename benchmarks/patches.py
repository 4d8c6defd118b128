"""Patch embeddings of views: exactness against float64, and what they cost a whole ViT-tiny.

python benchmarks/patches.py [--sizes 224/16 64/8] [--rounds 5] [--only accuracy|time]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from fieldmark.models.vit.patches import build_patch_embedding, replace_patch_embedding
from fieldmark.recipes.schema import Patches

PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "shared" / "data" / "leaves" / "images"
KINDS = ("shifted", "rotated")
FORMULATIONS = ("stacked", "folded")
NUM_TOKENS = 1568


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["224/16", "72/6", "64/8", "32/4"])
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each time")
    parser.add_argument("--only", choices=["accuracy", "time"])
    options = parser.parse_args()
    sizes = [tuple(map(int, size.split("/"))) for size in options.sizes]
    torch.set_num_threads(1)
    if options.only != "time":
        show_accuracy(sizes)
    if options.only != "accuracy":
        show_times(sizes, options.rounds)


def show_accuracy(sizes: list[tuple[int, ...]]) -> None:
    """Largest difference to the definition in float64, width 192."""
    print("largest difference to float64, float32 / bfloat16 autocast\n")
    print("| px/patch | views | images | stacked | folded |\n|---|---|---|---|---|")
    for image_size, patch_size in sizes:
        for kind in KINDS:
            torch.manual_seed(0)
            embedding = build_patch_embedding(
                Patches(kind=kind, form="published"),
                image_size=image_size,
                patch_size=patch_size,
                width=192,
            ).eval()
            for name, images in draw_images(image_size).items():
                cells = [describe_errors(embedding, images, each) for each in FORMULATIONS]
                print(f"| {image_size}/{patch_size} | {kind} | {name} | {' | '.join(cells)} |")


def draw_images(image_size: int) -> dict[str, Tensor]:
    """Normalised images (B, 3, H, W) by name."""
    flat = torch.full((3, 3, image_size, image_size), 2.4)
    flat[0] = 0.0
    flat[1, :, :, image_size // 3 :] = -1.8
    nearly = 2.4 + 1e-6 * torch.randn(3, 3, image_size, image_size)
    images = {"noise": torch.randn(4, 3, image_size, image_size), "flat": flat, "nearly": nearly}
    paths = sorted(PHOTOGRAPHS.glob("*.jpg"))[:16]
    if not paths:
        print("(photographs skipped: no folder 'shared' beside the project)")
        return images
    files = [Image.open(path).convert("RGB").resize((image_size, image_size)) for path in paths]
    pixels = torch.stack([torch.from_numpy(np.array(file)) for file in files])
    return images | {"photographs": (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25}


@torch.no_grad()
def describe_errors(embedding: nn.Module, images: Tensor, formulation: str) -> str:
    exact = copy.deepcopy(embedding).double()
    exact.views.formulation = "stacked"  # type: ignore[union-attr, assignment]
    expected = exact(images.double())
    embedding.views.formulation = formulation  # type: ignore[union-attr, assignment]
    full = embedding(images)
    with torch.autocast("cpu", torch.bfloat16):
        half = embedding(images)
    errors = [float((tokens.double() - expected).abs().max()) for tokens in (full, half)]
    return " / ".join(f"{error:.1e}" for error in errors)


def show_times(sizes: list[tuple[int, ...]], rounds: int) -> None:
    """CPU seconds of whole networks, one thread, against the plain embedding."""
    variants = [("plain", "")] + [(kind, each) for kind in KINDS for each in FORMULATIONS]
    names = [" ".join(variant).strip() for variant in variants]
    print("\nViT-tiny, ms per image, float32, one thread (more than plain)\n")
    print(f"| px/patch, batch, pass | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    for image_size, patch_size in sizes:
        batch = max(1, NUM_TOKENS * patch_size**2 // image_size**2)
        images = torch.randn(batch, 3, image_size, image_size)
        nets = [create(image_size, patch_size, *variant) for variant in variants]
        for step, run in {"inference": infer, "training": train}.items():
            seconds = measure([(run, net, images) for net in nets], rounds)
            plain = seconds[0]
            cells = [
                f"{1000 * each / batch:.2f}" + (f" ({each / plain - 1:+.1%})" if index else "")
                for index, each in enumerate(seconds)
            ]
            print(
                f"| {image_size}/{patch_size}, {batch}, {step} | {' | '.join(cells)} |", flush=True
            )


def create(image_size: int, patch_size: int, kind: str, formulation: str) -> nn.Module:
    net: nn.Module = timm.create_model(
        "vit_tiny_patch16_224", img_size=image_size, patch_size=patch_size, num_classes=100
    )
    replace_patch_embedding(net, Patches.model_validate({"kind": kind, "form": "published"}))
    if formulation:
        net.patch_embed.views.formulation = formulation  # type: ignore[union-attr, assignment]
    return net


@torch.no_grad()
def infer(net: nn.Module, images: Tensor) -> None:
    net.eval()(images)


def train(net: nn.Module, images: Tensor) -> None:
    net.train()(images).logsumexp(1).sum().backward()


def measure(
    calls: list[tuple[Callable[[nn.Module, Tensor], None], nn.Module, Tensor]], rounds: int
) -> list[float]:
    """Least CPU seconds of each call, taken in turn so that a busy machine slows all alike."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for (run, net, images), found in zip(calls, seconds, strict=True):
            start = time.process_time()
            run(net, images)
            found.append(time.process_time() - start)
    return [min(found[1:]) for found in seconds]


if __name__ == "__main__":
    main()
