"""What both drawn sets share: curves, ribbons, masks, soft noise, colours and the PNG at the end.

Pictures are composed at `SIZE` pixels; shapes are filled on a grid `OVERSAMPLING` times finer and
averaged down, which gives smooth edges. Points are arrays of shape (N, 2) holding x and y.
"""

from __future__ import annotations

import io
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
    return np.einsum("tk,knd->ntd", weights, windows).reshape(-1, 2)


def normals(paths: Points) -> Points:
    """Return the unit normals, left of the direction of travel, of paths (..., N, 2)."""
    along = np.empty_like(paths)
    along[..., 1:-1, :] = paths[..., 2:, :] - paths[..., :-2, :]
    along[..., 0, :] = paths[..., 1, :] - paths[..., 0, :]
    along[..., -1, :] = paths[..., -1, :] - paths[..., -2, :]
    across = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    return np.asarray(across / np.maximum(np.hypot(*np.moveaxis(along, -1, 0)), 1e-9)[..., None])


def ribbon(paths: Points, widths: Points) -> Points:
    """Return the outlines (..., 2N, 2) of strokes along `paths` (..., N, 2) of full `widths` (N,)."""
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
    return np.asarray(fine.reduce(OVERSAMPLING), dtype=np.float32) / 255


def blur(field: Field, radius: float) -> Field:
    """Return a coverage field, 0 to 1, blurred by a Gaussian of `radius` pixels."""
    image = Image.fromarray((np.clip(field, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255


def soft_noise(rng: np.random.Generator, cells: int) -> Field:
    """Return smooth noise of unit variance at the nodes of a grid of `cells` per side."""
    nodes = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(nodes.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float32)


def mix(one: Colour, other: Colour, amount: float) -> Colour:
    """Return the colour `amount` of the way from `one` to `other`."""
    red, green, blue = (round(a + (b - a) * amount) for a, b in zip(one, other, strict=True))
    return red, green, blue


def encode_png(pixels: Pixels) -> bytes:
    """Return the picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
