"""Read every image of a table once: what it is, how it looks, or why it cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from PIL import Image

from fieldmark.data.images import decode_pixels
from fieldmark.data.stores import ImageStore, without_place
from fieldmark.data.table import Table
from fieldmark.errors import TooManyBadImagesError, UnreadableImageError

GREY_SIDE = 32
COLOUR_SIDE = 8
FINGERPRINT_BYTES = GREY_SIDE**2 + 2 * COLOUR_SIDE**2

_BATCH = 64
_NAMED_IN_ERROR = 5

Fact = TypeVar("Fact")


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What one reading of an image tells; at most about 1.5 KB.

    `content_hash` is of the file's bytes (BLAKE2b), `pixel_hash` of the decoded RGB array and its
    size (SHA-256), both 128 bits, hexadecimal. `fingerprint` is a thumbnail, one byte a value:
    brightness (32, 32), then the two colour differences (8, 8) each; empty where none was wanted.
    """

    image: str
    content_hash: str
    pixel_hash: str
    fingerprint: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Scan:
    """Facts of every readable image and the reason for every other, by image name."""

    facts: Mapping[str, ImageFacts]
    errors: Mapping[str, str]


@dataclass(frozen=True)
class BadImage:
    """A row whose image cannot be read, and why."""

    image: str
    label: str
    reason: str


def scan_table(
    table: Table,
    *,
    with_fingerprints: bool = True,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Read each distinct image of `table` once; the result does not depend on `num_workers`.

    `with_fingerprints` takes the thumbnails that look-alikes are found by. With `num_workers` above
    1 that many threads share the work. `progress(done, total)` is called as images come in.
    """
    images = tuple(dict.fromkeys(row.image for row in table.rows))
    facts: dict[str, ImageFacts] = {}
    errors: dict[str, str] = {}
    scan = partial(scan_image, table.store, with_fingerprint=with_fingerprints)
    for batch in read_each(images, scan, num_workers):
        for image, result in batch:
            if isinstance(result, ImageFacts):
                facts[image] = result
            else:
                errors[image] = result
        if progress is not None:
            progress(len(facts) + len(errors), len(images))
    return Scan(facts, errors)


def scan_image(store: ImageStore, image: str, *, with_fingerprint: bool = True) -> ImageFacts:
    """Read, hash and decode one image; raise `UnreadableImageError` if that fails."""
    return describe_image(image, store.read(image), with_fingerprint=with_fingerprint)


def describe_image(image: str, data: bytes, *, with_fingerprint: bool = True) -> ImageFacts:
    """Hash and decode the bytes of one image; raise `UnreadableImageError` if that fails."""
    pixels = decode_pixels(data)
    height, width = pixels.shape[:2]
    # Processors have instructions for SHA-256, which takes half as long as BLAKE2b with them.
    digest = hashlib.sha256(pixels.data)
    digest.update(f"{width}x{height}".encode())
    return ImageFacts(
        image=image,
        content_hash=hash_content(data),
        pixel_hash=digest.hexdigest()[:32],
        fingerprint=fingerprint_of(Image.fromarray(pixels)) if with_fingerprint else b"",
        width=width,
        height=height,
    )


def hash_content(data: bytes) -> str:
    """BLAKE2b of an image file, 128 bits as hex digits; runs keep it, so it never changes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def fingerprint_of(picture: Image.Image) -> bytes:
    """Thumbnail of an RGB picture: brightness (32, 32) and colour differences (2, 8, 8)."""
    # Area averages, because they give the same for a picture and a resized copy of it.
    small = picture.resize((GREY_SIDE, GREY_SIDE), Image.Resampling.BOX).convert("YCbCr")
    values = np.asarray(small, dtype=np.uint8)
    cell = GREY_SIDE // COLOUR_SIDE
    colour = values[..., 1:].reshape(COLOUR_SIDE, cell, COLOUR_SIDE, cell, 2).mean(axis=(1, 3))
    colour_planes = np.rint(colour).astype(np.uint8).transpose(2, 0, 1)
    return bytes(values[..., 0].tobytes() + colour_planes.tobytes())


def drop_unreadable(table: Table, scan: Scan, max_bad: float) -> tuple[Table, tuple[BadImage, ...]]:
    """Leave out the rows whose image could not be read.

    `TooManyBadImagesError` if they are more than the share `max_bad` of all rows.
    """
    bad = tuple(
        BadImage(row.image, row.label, scan.errors[row.image])
        for row in table.rows
        if row.image in scan.errors
    )
    if not bad:
        return table, ()
    named = _name_first(bad)
    share = len(bad) / len(table)
    if share > max_bad:
        raise TooManyBadImagesError(
            f"{len(bad)} of {len(table)} images ({share:.1%}) cannot be read, and at most "
            f"{max_bad:.1%} may be:\n{named}\n"
            "Repair or remove these files, or allow a larger share with --max-bad."
        )
    rows = [row for row in table.rows if row.image not in scan.errors]
    note = f"{len(bad)} of {len(table)} images cannot be read and are left out:\n{named}"
    return table.with_rows(rows, note), bad


def read_each(
    images: Sequence[str], read: Callable[[str], Fact], num_threads: int
) -> Iterator[list[tuple[str, Fact | str]]]:
    """Read images in batches, in order: what `read` makes of each, or why it cannot be read.

    Decoding, resizing and hashing leave Python's lock, so threads share the work; processes
    would need a main module that can be imported anew, which a user's script often is not.
    """
    batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]

    def read_batch(batch: Sequence[str]) -> list[tuple[str, Fact | str]]:
        return [(image, _read_or_reason(image, read)) for image in batch]

    if num_threads <= 1:
        yield from map(read_batch, batches)
        return
    with ThreadPoolExecutor(num_threads) as executor:
        yield from executor.map(read_batch, batches)


def _read_or_reason(image: str, read: Callable[[str], Fact]) -> Fact | str:
    try:
        return read(image)
    except UnreadableImageError as error:
        return without_place(str(error), image)


def _name_first(bad: Sequence[BadImage]) -> str:
    lines = [f"  {row.image}: {row.reason}" for row in bad[:_NAMED_IN_ERROR]]
    if len(bad) > _NAMED_IN_ERROR:
        lines.append(f"  and {len(bad) - _NAMED_IN_ERROR} more")
    return "\n".join(lines)
