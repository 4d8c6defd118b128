"""Draws every figure of docs/models.md into docs/images/models.

    python docs/figures/draw.py             # all of them, about fifteen seconds on one core
    python docs/figures/draw.py ifa norms   # only these
    python docs/figures/draw.py --out DIR

What a figure shows is computed by the package: its modules are built, run and counted. Nothing is
random but by a fixed seed, so every run with the same versions of torch, timm and Pillow writes
the same bytes.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

import attention
import convolution
import heads
import patches
import probability
import small_networks
import tags
import tokens
import torch
from canvas import Figure

OUT_DIR = Path(__file__).resolve().parents[1] / "images" / "models"

FIGURES: dict[str, Callable[[], Figure]] = {
    "interface": tokens.draw_interface,
    "softmax": probability.draw_softmax,
    "cross-entropy": probability.draw_cross_entropy,
    "receptive-field": convolution.draw_receptive_field,
    "blocks": convolution.draw_blocks,
    "norms": convolution.draw_norms,
    "encoder": tokens.draw_encoder,
    "positions": tokens.draw_positions,
    "views": patches.draw_views,
    "reach": patches.draw_reach,
    "attention": attention.draw_attention,
    "small-vit": small_networks.draw_small_vit,
    "ifa": heads.draw_ifa,
    "tags": tags.draw_sequence,
    "tag-masking": tags.draw_schedules,
    "distillation": heads.draw_distillation,
    "forms": small_networks.draw_forms,
}


def main() -> None:
    """Draw what the command line asks for."""
    parser = ArgumentParser(description="Draw the figures of docs/models.md.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}")
    parser.add_argument("--out", type=Path, default=OUT_DIR, help="folder to write to")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in FIGURES]
    if unknown:
        parser.error(f"there is no figure {', '.join(unknown)}; there are {', '.join(FIGURES)}")
    torch.set_num_threads(1)  # the order of a sum would change its last digits
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.names or FIGURES:
        path = asked.out / f"{name}.svg"
        path.write_text(FIGURES[name]().render(), encoding="utf-8")


if __name__ == "__main__":
    main()
