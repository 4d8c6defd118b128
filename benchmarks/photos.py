"""Generated JPEGs of 500 x 375 in the folders train/ and val/, for what is timed on whole sets.

python benchmarks/photos.py OUT [--train 1000] [--val 200] [--classes 10]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 500, 375


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--val", type=int, default=200)
    parser.add_argument("--classes", type=int, default=10)
    options = parser.parse_args()
    draw_photos(options.out, train=options.train, val=options.val, num_classes=options.classes)


def draw_photos(out: Path, *, train: int, val: int, num_classes: int) -> None:
    """Draw so many images in all; Huffman data are about as long as those of photographs.

    A class has its own pair of colours and its own scale of blotches, both blurred by chance, so
    that a network learns it within a few epochs but not at once.
    """
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            kind = number % num_classes
            folder = out / split / f"class{kind:02}"
            folder.mkdir(parents=True, exist_ok=True)
            seed = [split == "val", number]
            draw_photo(kind, num_classes, np.random.default_rng(seed)).save(
                folder / f"{number:06}.jpg", quality=90
            )


def draw_photo(kind: int, num_classes: int, generator: np.random.Generator) -> Image.Image:
    """One picture of a class."""
    hue = 2 * np.pi * (kind / num_classes + generator.normal(0, 0.08))
    tint = 128 + 40 * np.cos(hue + np.array([0.0, 2.1, 4.2]))
    scale = 5 + 3 * (kind % 4)
    layers = []
    for side, spread in ((scale, 50), (40, 60), (200, 70)):
        values = generator.normal(tint, spread, (side * 3 // 4, side, 3)).clip(0, 255)
        layer = Image.fromarray(values.astype(np.uint8))
        layers.append(layer.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    return Image.blend(Image.blend(layers[0], layers[1], 0.3), layers[2], 0.15)


if __name__ == "__main__":
    main()
