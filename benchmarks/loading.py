"""Images per CPU second of the loader, first and later epochs, against timm's; peak memory.

python benchmarks/loading.py speed FOLDER... [--images 400] [--size 128] [--turns 5]
python benchmarks/loading.py parts FOLDER... [--images 400] [--size 128] [--turns 5]
python benchmarks/loading.py photos OUT [NUM]               draw NUM JPEGs of 500 x 375
python benchmarks/loading.py memory FOLDER NUM              peak MB with NUM images of 32 px

speed and parts take up to 400 JPEGs from any depth of each folder. Freed memory is kept, as the
program `fieldmark` keeps it, for both loaders: timm's gains by it too.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from figures import Figure, tell
from PIL import Image

from fieldmark.cli.program import keep_freed_memory
from fieldmark.data.decoded import DecodedTransform, StoredForm, open_decoded
from fieldmark.data.images import decode_pixels
from fieldmark.data.loaders import build_loader
from fieldmark.data.sampling import EpochOrder
from fieldmark.data.scan import hash_content
from fieldmark.data.stores import FolderStore
from fieldmark.data.table import Row, Table
from fieldmark.recipes.schema import Augment
from fieldmark.transforms import TransformRecord, build_train_transform
from fieldmark.transforms.pipelines import TrainTransform

BATCH_SIZE = 32
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def draw_photos(out: Path, num_images: int) -> None:
    """JPEGs whose Huffman data are about as long as those of photographs (quality 90)."""
    out.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for number in range(num_images):
        layers = [
            Image.fromarray(
                generator.integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8)
            ).resize((500, 375), Image.Resampling.BICUBIC)
            for side in (6, 40, 200)
        ]
        picture = Image.blend(Image.blend(layers[0], layers[1], 0.3), layers[2], 0.15)
        picture.save(out / f"{number}.jpg", quality=90)


def copy_some(folder: Path, num_images: int, place: Path) -> Path:
    """A folder of the same name with `num_images` JPEGs from all over it."""
    files = sorted(folder.rglob("*.jpg"))
    out = place / folder.resolve().name
    out.mkdir()
    for number, file in enumerate(files[:: max(1, len(files) // num_images)][:num_images]):
        shutil.copyfile(file, out / f"{number}.jpg")
    return out


def read_folder(folder: Path) -> Table:
    """All JPEGs as one class."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))
    rows = tuple(Row(name, ("all",), split="train") for name in names)
    return Table(rows, FolderStore(folder), str(folder), class_names=("all",))


def build_transform(size: int, crop_from: str, scale: tuple[float, float]) -> TrainTransform:
    """Random resized crop and flip, as timm's."""
    augment = Augment(
        crop="resized",
        crop_from=crop_from,  # type: ignore[arg-type]
        crop_scale=scale,
        horizontal_flip=0.5,
    )
    return build_train_transform(
        TransformRecord(size, "squash", 1.0, "bicubic", *IMAGENET, augment)
    )


def epochs_of_fieldmark(
    table: Table, transform: TrainTransform, num_epochs: int
) -> Iterator[float]:
    """Images per CPU second of each epoch; the store is new."""
    hashes = {row.image: hash_content(table.store.read(row.image)) for row in table.rows}
    form = StoredForm(transform.preparation.name, transform.preparation.max_px)
    with tempfile.TemporaryDirectory() as folder:
        decoded = open_decoded(Path(folder), hashes, form, print)
        assert decoded is not None
        loader = build_loader(
            table,
            DecodedTransform(transform, decoded),
            batch_size=BATCH_SIZE,
            order=EpochOrder.for_training(table, seed=0, sampling="natural"),
            seed=0,
            num_workers=0,
        )
        for epoch in range(num_epochs):
            start = time.process_time()
            count = sum(len(batch) for batch in loader.epoch(epoch))
            yield count / (time.process_time() - start)


def speed_of_timm(folder: Path, size: int, scale: tuple[float, float]) -> float:
    """One epoch of timm's loader, as any other; on a CPU it normalises in the transform."""
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", root=str(folder)),
        input_size=(3, size, size),
        batch_size=BATCH_SIZE,
        is_training=True,
        use_prefetcher=False,
        scale=scale,
        ratio=(3 / 4, 4 / 3),
        hflip=0.5,
        color_jitter=None,
        interpolation="bicubic",
        mean=IMAGENET[0],
        std=IMAGENET[1],
        num_workers=0,
        persistent_workers=False,
    )
    start = time.process_time()
    count = sum(len(images) for images, _ in loader)
    return count / (time.process_time() - start)


def measure_speed(folder: Path, size: int, scale: tuple[float, float], turns: int) -> None:
    """Medians of turns, in each of which all loaders follow each other.

    A ratio is the median of those to timm in the same turn, its quartiles behind it.
    """
    table = read_folder(folder)
    transforms = {kind: build_transform(size, kind, scale) for kind in ("auto", "whole")}
    timm: list[float] = []
    ours: dict[str, list[list[float]]] = {kind: [] for kind in transforms}
    for _ in range(turns):
        timm.append(speed_of_timm(folder, size, scale))
        for kind, transform in transforms.items():
            ours[kind].append(list(epochs_of_fieldmark(table, transform, 3)))
    print(f"{folder.name}, {len(table)} images, {size} px, crop {scale}, {turns} turns", flush=True)
    print(f"  timm                           {np.median(timm):6.0f}", flush=True)
    figures = []
    for kind, speeds in ours.items():
        first = np.array([turn[0] for turn in speeds])
        later = np.array([np.mean(turn[1:]) for turn in speeds])
        for name, values in (("first epoch", first), ("later epochs", later)):
            low, middle, high = np.quantile(values / np.array(timm), (0.25, 0.5, 0.75))
            print(
                f"  fieldmark {kind:5} {name:12} {np.median(values):6.0f}"
                f"  {middle:.2f}x ({low:.2f} - {high:.2f})",
                flush=True,
            )
            product, peer = (f"{np.median(v):.0f} images/CPU s" for v in (values, timm))
            limit = 1.5 if name == "first epoch" else 8.0
            what = f"loading {folder.name}, crop_from {kind}, {name}"
            figures.append(Figure(what, product, peer, float(middle), limit))
    tell(figures)


def measure_parts(folder: Path, size: int, scale: tuple[float, float], turns: int) -> None:
    """CPU microseconds an image of each part of loading, medians of turns over all images.

    The third is how the second would decode by Pillow, which still judges what is not flawless.
    """
    table = read_folder(folder)
    names = [row.image for row in table.rows]
    transform = build_transform(size, "whole", scale)
    files = [table.store.read(name) for name in names]
    images = [transform.prepare(decode_pixels(data)) for data in files]
    seeded = [(pixels, seed) for seed, pixels in enumerate(images)]
    form = StoredForm(transform.preparation.name, transform.preparation.max_px)
    hashes = dict(zip(names, map(hash_content, files), strict=True))
    with tempfile.TemporaryDirectory() as place:
        decoded = open_decoded(Path(place), hashes, form, print)
        assert decoded is not None
        rows = [decoded.row_of(name) for name in names]
        prepare = transform.prepare
        parts: dict[str, Callable[[], object]] = {
            "read the file": lambda: [table.store.read(name) for name in names],
            "decode and prepare": lambda: [prepare(decode_pixels(each)) for each in files],
            "decode by Pillow": lambda: [np.array(Image.open(BytesIO(each))) for each in files],
            "store": lambda: list(map(decoded.write, rows, files, images)),
            "read what is stored": lambda: list(map(decoded.read, rows)),
            "crop, resize, flip, normalise": lambda: [
                transform.finish(seeded[start : start + BATCH_SIZE], at_most=BATCH_SIZE)
                for start in range(0, len(seeded), BATCH_SIZE)
            ],
        }
        seconds: dict[str, list[float]] = {name: [] for name in parts}
        for _ in range(turns):
            for name, take in parts.items():
                start = time.process_time()
                take()
                seconds[name].append(time.process_time() - start)
    print(f"{folder.name}, {len(table)} images, {size} px, {turns} turns, us an image", flush=True)
    for name, spent in seconds.items():
        print(f"  {name:30} {1e6 * np.median(spent) / len(table):6.0f}", flush=True)


class Numbered:
    """One folder as any number of different images: a number behind the end of each JPEG."""

    def __init__(self, folder: Path) -> None:
        self.names = sorted(str(path) for path in folder.rglob("*.jpg"))

    def read(self, key: str) -> bytes:
        """The bytes of image number `key`."""
        number = int(key)
        return Path(self.names[number % len(self.names)]).read_bytes() + number.to_bytes(8, "big")


def measure_memory(folder: Path, num_rows: int) -> None:
    """Two epochs over `num_rows` images, each with a row of its own in the store."""
    rows = tuple(Row(str(row), ("all",), split="train") for row in range(num_rows))
    table = Table(rows, Numbered(folder), str(folder), class_names=("all",))
    transform = build_transform(32, "auto", (0.35, 1.0))
    speeds = list(epochs_of_fieldmark(table, transform, 2))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{num_rows} images: peak {peak:.0f} MB, {speeds[0]:.0f} then {speeds[1]:.0f} images/s")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speed", "parts", "photos", "memory"))
    parser.add_argument("places", nargs="+")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--images", type=int, default=400, help="at most, of each folder")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--scale", type=float, nargs=2, default=(0.35, 1.0))
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if given.what == "photos":
        draw_photos(Path(given.places[0]), int(given.places[1]))
    elif given.what == "memory":
        measure_memory(Path(given.places[0]), int(given.places[1]))
    else:
        measure = measure_parts if given.what == "parts" else measure_speed
        for folder in map(Path, given.places):
            with tempfile.TemporaryDirectory() as place:
                images = copy_some(folder, given.images, Path(place))
                measure(images, given.size, tuple(given.scale), given.turns)


if __name__ == "__main__":
    main()
