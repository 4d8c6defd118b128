"""Cost of `fieldmark check` on generated images: CPU seconds, wall seconds and peak memory.

Pictures are drawn at random, a tenth of them copies: the same file, saved again at another
quality, or mirrored. Each measurement is a process of its own.

python benchmarks/audit.py [--images 20000] [--size 224] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

NUM_CLASSES = 100
COPIES = 10  # one picture in so many is followed by a copy


def draw(folder: Path, count: int, size: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"class-{number % NUM_CLASSES:02}"
        place.mkdir(parents=True, exist_ok=True)
        if number % COPIES or not number:
            coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
            fine = rng.integers(-16, 16, (size, size, 1))
            noisy = np.clip(np.asarray(picture, dtype=np.int16) + fine, 0, 255).astype(np.uint8)
            picture = Image.fromarray(noisy)
        kind = (number // COPIES) % 3
        if number % COPIES == 0 and kind == 1:
            picture = ImageOps.mirror(picture)
        quality = 70 if number % COPIES == 0 and kind == 2 else 90
        picture.save(place / f"{number:06}.jpg", quality=quality)


def measure(folder: Path) -> None:
    """Run the command in a process of its own and print its cost."""
    start = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = folder.parent / "audit.html"
    command = [sys.executable, "-m", "fieldmark", "check", str(folder), "--json", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    kinds = [group["kind"] for group in found["duplicates"]]
    print(
        f"{found['num_images']:,} images, {os.cpu_count()} cores: {cpu:.1f} CPU s "
        f"({1000 * cpu / found['num_images']:.2f} ms an image), {seconds:.1f} s wall of which "
        f"{found['seconds']:.1f} s the audit, {after.ru_maxrss / 1024:.0f} MB at most; groups: "
        + ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
        + f"; page {out.stat().st_size / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--folder", type=Path, help="keep the pictures here, or take those there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        pictures = given.folder or Path(scratch) / "pictures"
        if not pictures.is_dir():
            draw(pictures, given.images, given.size)
        measure(pictures)
