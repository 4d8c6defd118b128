"""Faces: head, eyes, brows and mouth with their expressions, and the clothes below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fieldmark.data.samples.canvas import Canvas
from fieldmark.data.samples.cast import Character, EyeShape
from fieldmark.data.samples.drawing import (
    Colour,
    Points,
    ellipse,
    mix,
    smooth_curve,
    smooth_loop,
)
from fieldmark.data.samples.hair import INK, WHITE, Tones
from fieldmark.data.samples.hair_shapes import mirrored

Mouth = Literal["smile", "open", "line", "frown", "round", "cat"]
Lids = Literal["open", "closed", "wink"]
Outfit = Literal["school uniform", "hoodie", "shirt", "sweater"]


@dataclass(frozen=True)
class Expression:
    """A mood: its mouth, lids, slope of the brows (positive is angry), blush, and its tags."""

    mouth: Mouth
    lids: Lids
    brow_slope: float
    blush: float
    tags: tuple[str, ...]


EXPRESSIONS = (
    Expression("smile", "open", 0.0, 0.3, ("smile",)),
    Expression("smile", "closed", -0.1, 0.5, ("smile", "closed eyes")),
    Expression("open", "open", 0.0, 0.4, ("smile", "open mouth")),
    Expression("open", "wink", 0.05, 0.5, ("smile", "open mouth", "one eye closed")),
    Expression("line", "open", 0.0, 0.1, ("expressionless",)),
    Expression("frown", "open", -0.3, 0.2, ("frown", "sad")),
    Expression("frown", "open", 0.35, 0.3, ("frown", "angry")),
    Expression("round", "open", -0.15, 0.3, ("open mouth", "surprised")),
    Expression("cat", "open", 0.0, 0.7, ("cat mouth", "blush")),
)
EXPRESSION_WEIGHTS = (0.26, 0.08, 0.17, 0.06, 0.17, 0.06, 0.07, 0.06, 0.07)


@dataclass(frozen=True)
class _Eye:
    """Measures of an eye in head units; `slant` raises the outer corner."""

    width: float
    height: float
    slant: float


_EYES: dict[EyeShape, _Eye] = {
    "round": _Eye(12.5, 15.5, 0.0),
    "sharp": _Eye(13.5, 12.5, 2.6),
    "gentle": _Eye(13.0, 13.5, -2.2),
    "narrow": _Eye(12.5, 9.0, 1.6),
}

_JAW = np.array([(30.0, -12.0), (29.5, 4.0), (25.5, 17.0), (16.0, 28.0), (6.0, 34.6)])
FACE = smooth_loop(
    np.concatenate([[(0.0, -40.0), (20.0, -34.0)], _JAW, mirrored(_JAW)[::-1], [(-20.0, -34.0)]]), 6
)
_NECK = np.array([(-7.5, 22.0), (7.5, 22.0), (9.5, 46.0), (0.0, 60.0), (-9.5, 46.0)])
_NECK_SHADOW = np.array([(-9.0, 26.0), (9.0, 26.0), (9.0, 37.0), (0.0, 42.0), (-9.0, 37.0)])
_SHOULDERS = smooth_loop(
    [(-9, 46), (9, 46), (30, 54), (46, 66), (52, 110), (-52, 110), (-46, 66), (-30, 54)], 6
)
EYE_HEIGHT = 8.0
EYE_DISTANCE = 13.6


def draw_body(canvas: Canvas, outfit: Outfit, cloth: Colour, skin: Tones) -> None:
    """Draw shoulders, clothes and neck."""
    tones = Tones.of(cloth)
    canvas.fill(_SHOULDERS, cloth, tones.line)
    canvas.fill(_NECK, skin.base, skin.line)
    canvas.fill(_NECK_SHADOW, skin.dark)
    if outfit == "school uniform":
        _sailor_collar(canvas, tones)
    elif outfit == "hoodie":
        for side in (1, -1):
            canvas.fill(_HOOD * (side, 1), tones.base, tones.line)
            canvas.stroke(np.array([(6.0 * side, 57.0), (7.0 * side, 72.0)]), WHITE, 1.6, (1, 1))
    elif outfit == "shirt":
        for side in (1, -1):
            canvas.fill(_LAPEL * (side, 1), WHITE, tones.line)
        canvas.fill(_TIE, mix(cloth, INK, 0.4), tones.line)
    else:
        canvas.fill(_ROLL_NECK, tones.light, tones.line)


def _sailor_collar(canvas: Canvas, tones: Tones) -> None:
    for side in (1, -1):
        canvas.fill(_LAPEL * (side * 1.25, 1.15), tones.dark, tones.line)
        canvas.fill(_BOW * (side, 1), (206, 66, 76), (110, 30, 44))
    canvas.fill(ellipse((0, 71), (3, 3), 12), (206, 66, 76), (110, 30, 44))


_LAPEL = np.array([(7.0, 43.0), (20.0, 51.0), (15.0, 66.0), (0.0, 61.0)])
_BOW = np.array([(0.0, 71.0), (12.0, 65.0), (13.0, 76.0)])
_TIE = np.array([(-3.5, 60.0), (3.5, 60.0), (5.0, 92.0), (-5.0, 92.0)])
_HOOD = smooth_loop([(8, 42), (24, 46), (30, 56), (16, 62), (1, 60)], 5)
_ROLL_NECK = smooth_loop([(-10, 40), (0, 42), (10, 40), (12, 52), (0, 55), (-12, 52)], 5)


def draw_head(canvas: Canvas, hair_cap: Points, skin: Tones, expression: Expression) -> None:
    """Draw ears, face, the shadow of the bangs and the blush."""
    for side in (1, -1):
        canvas.fill(ellipse((30.5 * side, 7), (4.5, 6.5), 16), skin.base, skin.line)
    canvas.fill(FACE, skin.base, skin.line)
    with canvas.inside([FACE], 0.55), canvas.at_depth(0.4):
        canvas.fill(hair_cap + np.array((1.0, 4.0)), skin.dark)
    blush = mix(skin.base, (236, 96, 104), expression.blush)
    cheeks = [ellipse((17.5 * side, 18.5), (5.8, 3.0), 16) for side in (1, -1)]
    with canvas.at_depth(0.7):
        with canvas.inside(cheeks, 0.6):
            for cheek in cheeks:
                canvas.fill(cheek, blush)
        canvas.stroke(
            np.array([(-0.6, 15.5), (0.4, 17.2), (-0.4, 17.6)]), skin.line, 0.9, (0.5, 0.5)
        )


def draw_features(
    canvas: Canvas, character: Character, iris: Colour, brow: Colour, expression: Expression
) -> None:
    """Draw eyes, brows and mouth."""
    eye = _EYES[character.eye_shape]
    closed = {"open": (), "closed": (1, -1), "wink": (1,)}[expression.lids]
    opened = [side for side in (1, -1) if side not in closed]
    with canvas.at_depth(0.7):
        _draw_open_eyes(canvas, eye, opened, iris)
        for side in closed:
            arc = [(-6.5, 1.5), (-3, -1.8), (3, -1.8), (6.5, 1.5)]
            canvas.stroke(smooth_curve(_eye_points(arc, side), 6), INK, 2.2, (0.4, 0.4))
        for side in (1, -1):
            rise = 5.5 * expression.brow_slope
            path = [(-6.0, -9.5 - eye.height / 2 + rise), (0, -11.5 - eye.height / 2)]
            path.append((6.5, -10.0 - eye.height / 2 - rise))
            canvas.stroke(smooth_curve(_eye_points(path, side), 6), brow, 1.5, (0.9, 0.1))
        _draw_mouth(canvas, expression.mouth)


def _eye_points(points: list[tuple[float, float]] | Points, side: int) -> Points:
    """Points relative to an eye, x away from the nose, in head coordinates."""
    centre = np.array((EYE_DISTANCE, EYE_HEIGHT))
    return np.asarray((np.asarray(points) + centre) * (side, 1))


def _draw_open_eyes(canvas: Canvas, eye: _Eye, sides: list[int], iris: Colour) -> None:
    w, h, slant = eye.width / 2, eye.height / 2, eye.slant
    upper = smooth_curve(
        [(-w, 0.25 * h), (-0.5 * w, -0.8 * h), (0.35 * w, -h), (w, -0.2 * h - slant)], 6
    )
    lower = smooth_curve(
        [(w, -0.2 * h - slant), (0.7 * w, 0.8 * h - slant / 2), (-0.3 * w, h), (-w, 0.25 * h)], 6
    )
    whites = [_eye_points(np.concatenate([upper, lower]), side) for side in sides]
    with canvas.inside(whites):
        for white in whites:
            canvas.fill(white, (252, 250, 252))
        for side in sides:
            _draw_iris(canvas, eye, side, iris)
    for side in sides:
        lash = np.concatenate([upper, [(w + 1.8, -0.35 * h - slant)]])
        canvas.stroke(_eye_points(lash, side), INK, 2.6, (0.25, 0.3))
        canvas.stroke(_eye_points(lower[4:14], side), mix(INK, iris, 0.3), 0.9, (0.3, 0.3))
        crease = upper[5:15] * (1, 1.05) - (0, 2.6)
        canvas.stroke(_eye_points(crease, side), (150, 96, 96), 0.7, (0.2, 0.2))


def _draw_iris(canvas: Canvas, eye: _Eye, side: int, colour: Colour) -> None:
    centre = (EYE_DISTANCE - 0.4) * side
    width, height = eye.width * 0.38, min(eye.height * 0.53, 7.4)
    middle = EYE_HEIGHT + 0.2
    canvas.fill(ellipse((centre, middle), (width, height), 20), mix(colour, INK, 0.62))
    canvas.fill(ellipse((centre, middle + 0.4), (width - 0.8, height - 1.0), 20), colour)
    canvas.fill(
        ellipse((centre, middle - 0.45 * height), (width, 0.62 * height), 20), mix(colour, INK, 0.5)
    )
    canvas.fill(
        ellipse((centre, middle + 0.5 * height), (0.6 * width, 0.32 * height), 16),
        mix(colour, WHITE, 0.5),
    )
    canvas.fill(
        ellipse((centre, middle), (0.42 * width, 0.45 * height), 16), mix(colour, INK, 0.85)
    )
    canvas.fill(ellipse((centre - 1.8, middle - 0.45 * height), (1.7, 2.0), 14), WHITE)
    canvas.fill(ellipse((centre + 1.9, middle + 0.42 * height), (0.9, 1.0), 10), WHITE)


def _draw_mouth(canvas: Canvas, mouth: Mouth) -> None:
    line = (128, 54, 58)
    if mouth in ("open", "round"):
        shape = _MOUTHS[mouth]
        canvas.fill(shape, (176, 64, 70), line)
        with canvas.inside([shape]):
            canvas.fill(ellipse((0, 30.5), (4.5, 3.2), 14), (236, 128, 128))
    else:
        canvas.stroke(_MOUTHS[mouth], line, 1.3, (0.5, 0.5))


_MOUTHS: dict[Mouth, Points] = {
    "smile": smooth_curve([(-6, 24), (-2.5, 26.4), (2.5, 26.4), (6, 24)], 6),
    "open": smooth_loop([(-6.2, 23), (0, 23.9), (6.2, 23), (4, 28.6), (0, 30.4), (-4, 28.6)], 5),
    "line": smooth_curve([(-4, 25.2), (0, 25.5), (4, 25.2)], 5),
    "frown": smooth_curve([(-4.5, 26.8), (0, 24.8), (4.5, 26.8)], 6),
    "round": ellipse((0, 26), (2.8, 3.6), 18),
    "cat": smooth_curve([(-6, 24.2), (-3, 26.6), (0, 24.6), (3, 26.6), (6, 24.2)], 6),
}
