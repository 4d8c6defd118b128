"""Hair: what hangs behind the head, the cap with its bangs, and the light on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldmark.data.samples.canvas import Canvas
from fieldmark.data.samples.cast import Character
from fieldmark.data.samples.drawing import Colour, Points, mix, smooth_curve
from fieldmark.data.samples.hair_shapes import (
    BACK,
    FRINGES,
    SIDE_LOCK_ENDS,
    cap_top,
    mirrored,
    side_lock,
)

WHITE = (255, 255, 255)
SHADE = (70, 44, 96)
INK = (44, 26, 44)


@dataclass(frozen=True)
class Tones:
    """One colour as it is painted: lit, shaded, highlighted, and as a line."""

    base: Colour
    dark: Colour
    light: Colour
    line: Colour

    @classmethod
    def of(cls, base: Colour) -> Tones:
        """Derive the tones from the base colour."""
        return cls(base, mix(base, SHADE, 0.3), mix(base, WHITE, 0.5), mix(base, INK, 0.66))


@dataclass(frozen=True)
class Hair:
    """One head of hair as it falls in one picture; see `comb`."""

    back: tuple[Points, ...]
    cap: Points
    side_locks: tuple[Points, ...]
    partings: tuple[Points, ...]


def comb(character: Character, rng: np.random.Generator) -> Hair:
    """Return the character's hair with small differences from picture to picture."""
    sway = rng.normal(0, 2.0)
    back = [
        shape + (sway, 0.0) * np.clip((shape[:, 1:] + 30) / 60, 0, 1.5)
        for shape in BACK[character.style]
    ]
    corners = np.array(FRINGES[character.bangs], dtype=np.float64)
    corners[1:-1] += rng.normal(0, 0.8, (len(corners) - 2, 2))
    cap = np.concatenate([cap_top(character.style), _curved_edges(corners)])
    end = SIDE_LOCK_ENDS[character.style]
    locks = (
        side_lock(end * rng.uniform(0.92, 1.08)),
        mirrored(side_lock(end * rng.uniform(0.92, 1.08))),
    )
    return Hair(tuple(back), cap, locks, tuple(_parting(corner) for corner in corners[1:-1:2]))


def _curved_edges(corners: Points) -> Points:
    """Join tips and notches by edges that bow away from the middle of the face."""
    middles = (corners[1:] + corners[:-1]) / 2
    middles[:, 0] += 1.6 * np.sign(middles[:, 0])
    joined = np.empty((2 * len(corners) - 1, 2))
    joined[::2], joined[1::2] = corners, middles
    return joined


def _parting(notch: Points) -> Points:
    """The line that runs from a notch of the fringe up towards the crown."""
    crown = np.array((0.3 * notch[0], -42.0))
    middle = 0.55 * notch + 0.45 * crown + (0.12 * notch[0], 0)
    return smooth_curve(np.stack([notch, middle, crown]), 6)[:8]


def draw_back_hair(canvas: Canvas, hair: Hair, tones: Tones) -> None:
    """Draw what lies behind face and shoulders."""
    for shape in hair.back:
        canvas.fill(shape, mix(tones.base, tones.dark, 0.6), tones.line)


def draw_front_hair(canvas: Canvas, hair: Hair, tones: Tones) -> None:
    """Draw cap, bangs and side locks, with a ring of light around the crown."""
    for lock in hair.side_locks:
        canvas.fill(lock, tones.base, tones.line)
    canvas.fill(hair.cap, tones.base, tones.line)
    with canvas.inside([hair.cap]):
        for edge in (_TEMPLE_SHADE, mirrored(_TEMPLE_SHADE)):
            canvas.fill(edge, mix(tones.base, tones.dark, 0.6))
        canvas.fill(_RING, mix(tones.base, tones.light, 0.65))
        for parting in hair.partings:
            canvas.stroke(parting, mix(tones.line, tones.base, 0.25), 0.9, ends=(1.0, 0.0))


def _ring() -> Points:
    """A band of light around the crown, its lower edge frayed like strands."""
    x = np.linspace(-31, 31, 23)
    upper = -33 + 0.012 * x**2
    lower = upper + 3.5 + 3.2 * (np.arange(23) % 2) * (1 - np.abs(x) / 40)
    taper = np.clip((31 - np.abs(x)) / 9, 0, 1)
    lower = upper + (lower - upper) * taper
    return np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]])


_RING = _ring()
_TEMPLE_SHADE = np.array([(40.0, -30.0), (31.0, -24.0), (29.0, -4.0), (31.0, 14.0), (40.0, 14.0)])
