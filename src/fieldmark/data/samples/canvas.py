"""A canvas for figures: filled and outlined shapes in head coordinates, seen through a pose.

Head coordinates have their origin between the eyes and the mouth; x points right, y down, and
one unit is one pixel of the finished picture at zoom 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from fieldmark.data.samples.drawing import OVERSAMPLING, SIZE, Colour, Points, ribbon

FINE_SIZE = SIZE * OVERSAMPLING


@dataclass(frozen=True)
class Pose:
    """Where the head is: centre in pixels, zoom, tilt in radians, and how far it looks aside.

    `aside` is the shift in head units of what lies nearest to the viewer; `mirrored` swaps left
    and right.
    """

    centre: tuple[float, float]
    zoom: float
    tilt: float
    aside: float
    mirrored: bool

    def project(self, points: Points, depth: float) -> Points:
        """Head coordinates at a depth (1 nearest, -1 farthest) to pixels of the picture."""
        x = points[..., 0] + self.aside * depth
        x = (-x if self.mirrored else x) * self.zoom
        y = points[..., 1] * self.zoom
        cosine, sine = np.cos(self.tilt), np.sin(self.tilt)
        return np.stack(
            [self.centre[0] + x * cosine - y * sine, self.centre[1] + x * sine + y * cosine],
            axis=-1,
        )


class Canvas:
    """A picture in progress, drawn `OVERSAMPLING` times finer than it will be."""

    def __init__(self, background: Image.Image, pose: Pose, line_width: float) -> None:
        self.image = background
        self.pose = pose
        self.line_width = line_width
        self.depth = 0.0
        self._pen = ImageDraw.Draw(background)

    def fill(self, shape: Points, colour: Colour, line: Colour | None = None) -> None:
        """Fill a closed shape and, if `line` is given, draw its outline on top."""
        flat = self._flatten(shape)
        self._pen.polygon(flat, fill=colour)
        if line is not None:
            width = max(1, round(self.line_width * OVERSAMPLING))
            self._pen.line([*flat, *flat[:4]], fill=line, width=width, joint="curve")

    def stroke(
        self, path: Points, colour: Colour, width: float = 1.0, ends: tuple[float, float] = (0, 0)
    ) -> None:
        """Draw a brush stroke: `width` line widths in the middle, `ends` of that at the ends."""
        share = np.linspace(0, 1, len(path))
        body = np.sin(np.pi * share) ** 0.6
        profile = body + (1 - body) * (ends[0] * (1 - share) + ends[1] * share)
        self.fill(ribbon(path, profile * width * self.line_width), colour)

    @contextmanager
    def at_depth(self, depth: float) -> Iterator[None]:
        """Draw what follows nearer to the viewer (up to 1) or farther away (down to -1)."""
        before, self.depth = self.depth, depth
        yield
        self.depth = before

    @contextmanager
    def inside(self, shapes: Sequence[Points], strength: float = 1.0) -> Iterator[None]:
        """Let what follows show only inside `shapes`, as opaque as `strength` says."""
        mask = Image.new("L", self.image.size)
        pen = ImageDraw.Draw(mask)
        for shape in shapes:
            pen.polygon(self._flatten(shape), fill=round(255 * strength))
        before = self.image.copy()
        yield
        before.paste(self.image, (0, 0), mask)
        self.image.paste(before)

    def _flatten(self, points: Points) -> list[float]:
        pixels = self.pose.project(points, self.depth) * OVERSAMPLING
        return [float(value) for value in pixels.ravel().tolist()]
