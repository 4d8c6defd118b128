"""How long a loss landscape takes: 51 x 51 points of ViT-tiny at 128 px on 256 images.

    python benchmarks/landscape_speed.py [--passes 4000] [--whole]

Measures image passes per second and per second of processor time, and says what the landscape
takes with them, both as `fieldmark inspect` computes it and with every image at every point.
`--whole` computes it to the end instead. Weights are random: they change nothing in the cost.
"""

from __future__ import annotations

import argparse
import contextlib
import time

import torch

from fieldmark.inspection.landscape.directions import draw_plane
from fieldmark.inspection.landscape.losses import Sample, loss_of
from fieldmark.inspection.landscape.surface import compute_surface, fastest_precision
from fieldmark.inspection.landscape.weights import is_moved
from fieldmark.models.classifier import build_classifier
from fieldmark.recipes.schema import Model

POINTS, NUM_IMAGES, FEW, SIZE, CLASSES = 51, 256, 40, 128, 40


class Enough(Exception):
    """Measured long enough."""


class Seen:
    """Image passes done, and in all; ends the computation after `most`."""

    def __init__(self, most: int | None) -> None:
        self.most, self.done, self.total = most, 0, 0

    def __call__(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        if self.most is not None and done >= self.most:
            raise Enough


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=4000)
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    classifier, _ = build_classifier(
        Model(name="vit_tiny_patch16_224"), num_classes=CLASSES, image_size=SIZE, with_weights=False
    )
    named = {n: p for n, p in classifier.named_parameters() if is_moved(n, p)}
    images = torch.randn(NUM_IMAGES, 3, SIZE, SIZE)
    targets = torch.randint(CLASSES, (NUM_IMAGES,))
    sample = Sample((images,), targets, loss_of("multiclass"), "random images")
    for dtype in dict.fromkeys((fastest_precision(images.device), torch.float32)):
        started, cpu = time.perf_counter(), time.process_time()
        seen = Seen(None if options.whole else options.passes)
        with contextlib.suppress(Enough):
            compute_surface(
                classifier,
                sample,
                draw_plane(named, seed=0),
                points=POINTS,
                few=FEW,
                precision=dtype,
                count=seen,
            )
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu
        rate, per_cpu = seen.done / wall, seen.done / cpu
        every = POINTS * POINTS * NUM_IMAGES
        print(
            f"{dtype}, {torch.get_num_threads()} threads: {seen.done} of {seen.total} passes in "
            f"{wall:.0f} s: {rate:.0f}/s, {per_cpu:.0f} per second of processor time. Landscape "
            f"on two free cores {seen.total / per_cpu / 120:.1f} min, with every image at every "
            f"point {every / per_cpu / 120:.1f} min"
        )
        if options.whole:
            break


if __name__ == "__main__":
    main()
