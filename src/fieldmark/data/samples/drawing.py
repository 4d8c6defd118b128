"""What both drawn sets share: curves, ribbons, masks, soft noise, colours and the PNG at the end.

Pictures are composed at `SIZE` pixels; shapes are filled on a grid `OVERSAMPLING` times finer and
averaged down, which gives smooth edges. Points are arrays of shape (N, 2) holding x and y.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SIZE = 128
OVERSAMPLING = 3

Points = NDArray[np.float64]
Field = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

# Rows: constant, linear, quadratic and cubic coefficients of a uniform Catmull-Rom segment.
_CATMULL_ROM = 0.5 * np.array(
    [[0.0, 2.0, 0.0, 0.0], [-1.0, 0.0, 1.0, 0.0], [2.0, -5.0, 4.0, -1.0], [-1.0, 3.0, -3.0, 1.0]]
)


@dataclass(frozen=True)
class Drawing:
    """One picture, uint8 of shape (SIZE, SIZE, 3), and the words for what it shows."""

    pixels: Pixels
    tags: tuple[str, ...] | None = None


def smooth_curve(points: Iterable[tuple[float, float]] | Points, steps: int = 10) -> Points:
    """Return a smooth open curve through `points`, `steps` samples per segment."""
    given = np.asarray(list(points), dtype=np.float64)
    first, last = 2 * given[0] - given[1], 2 * given[-1] - given[-2]
    curve = _catmull_rom(np.vstack([first, given, last]), steps)
    return np.vstack([curve, given[-1:]])


def smooth_loop(points: Iterable[tuple[float, float]] | Points, steps: int = 10) -> Points:
    """Return a smooth closed curve through `points`, `steps` samples per segment."""
    given = np.asarray(list(points), dtype=np.float64)
    return _catmull_rom(np.vstack([given[-1:], given, given[:2]]), steps)


def _catmull_rom(padded: Points, steps: int) -> Points:
    windows = np.stack([padded[i : len(padded) - 3 + i] for i in range(4)])
    t = np.arange(steps) / steps
    weights = (t[:, None] ** np.arange(4)) @ _CATMULL_ROM
    curve: Points = np.einsum("tk,knd->ntd", weights, windows)
    return curve.reshape(-1, 2)


def normals(paths: Points) -> Points:
    """Return the unit normals, left of the direction of travel, of paths (..., N, 2)."""
    along = np.empty_like(paths)
    along[..., 1:-1, :] = paths[..., 2:, :] - paths[..., :-2, :]
    along[..., 0, :] = paths[..., 1, :] - paths[..., 0, :]
    along[..., -1, :] = paths[..., -1, :] - paths[..., -2, :]
    across = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    return np.asarray(across / np.maximum(np.hypot(*np.moveaxis(along, -1, 0)), 1e-9)[..., None])


def ribbon(paths: Points, widths: Points) -> Points:
    """Return outlines (..., 2N, 2) of strokes along `paths` (..., N, 2), `widths` (N,) wide."""
    offset = normals(paths) * (widths / 2)[:, None]
    return np.concatenate([paths + offset, (paths - offset)[..., ::-1, :]], axis=-2)


def ellipse(centre: tuple[float, float], radii: tuple[float, float], steps: int = 28) -> Points:
    """Return the outline of an upright ellipse."""
    angle = np.arange(steps) * (2 * np.pi / steps)
    return np.stack(
        [centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)], axis=1
    )


def fill_mask(shapes: Iterable[Points]) -> Field:
    """Return the coverage, 0 to 1, of the union of filled shapes given in pixels."""
    fine = Image.new("L", (SIZE * OVERSAMPLING, SIZE * OVERSAMPLING))
    pen = ImageDraw.Draw(fine)
    for shape in shapes:
        pen.polygon((shape * OVERSAMPLING).ravel().tolist(), fill=255)
    return _coverage(fine.reduce(OVERSAMPLING))


def blur(field: Field, radius: float) -> Field:
    """Return a coverage field, 0 to 1, blurred by a Gaussian of `radius` pixels."""
    image = Image.fromarray((np.clip(field, 0, 1) * 255).astype(np.uint8))
    return _coverage(image.filter(ImageFilter.GaussianBlur(radius)))


def _coverage(mask: Image.Image) -> Field:
    return np.asarray(mask, dtype=np.float32) * np.float32(1 / 255)


def soft_noise(rng: np.random.Generator, cells: int) -> Field:
    """Return smooth noise of unit variance at the nodes of a grid of `cells` per side."""
    nodes = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(nodes.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float32)


def mix(one: Colour, other: Colour, amount: float) -> Colour:
    """Return the colour `amount` of the way from `one` to `other`."""
    red, green, blue = (round(a + (b - a) * amount) for a, b in zip(one, other, strict=True))
    return red, green, blue


def encode_png(pixels: Pixels) -> bytes:
    """Return the picture as an uncompressed PNG file.

    Deflate libraries disagree about the bytes they write, and a run recognises its data by those
    bytes; stored blocks are the same everywhere.
    """
    height, width, _ = pixels.shape
    filtered = np.zeros((height, 1 + 3 * width), dtype=np.uint8)
    filtered[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", _stored(filtered.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def _stored(data: bytes) -> bytes:
    """A zlib stream of stored blocks, at most 65,535 bytes each."""
    pieces = [data[start : start + 65_535] for start in range(0, len(data), 65_535)]
    blocks = b"".join(
        struct.pack("<BHH", piece is pieces[-1], len(piece), len(piece) ^ 0xFFFF) + piece
        for piece in pieces
    )
    return b"\x78\x01" + blocks + struct.pack(">I", zlib.adler32(data))
