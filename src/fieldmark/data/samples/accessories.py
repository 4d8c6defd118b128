"""What characters wear on the head, each drawn behind, on the face, or over the hair."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from fieldmark.data.samples.canvas import Canvas
from fieldmark.data.samples.cast import Accessory, Character, HairStyle
from fieldmark.data.samples.drawing import Points, ellipse, mix, smooth_curve, smooth_loop
from fieldmark.data.samples.faces import EYE_DISTANCE
from fieldmark.data.samples.hair import WHITE, Tones

Painter = Callable[[Canvas, Character, Tones], None]


def draw_on_body(
    canvas: Canvas, worn: Iterable[Accessory], character: Character, hair: Tones
) -> None:
    """Draw what is worn around the neck, below the head."""
    _draw(canvas, worn, character, hair, _ON_BODY)


def draw_on_face(
    canvas: Canvas, worn: Iterable[Accessory], character: Character, hair: Tones
) -> None:
    """Draw what lies on the face, below the bangs."""
    _draw(canvas, worn, character, hair, _ON_FACE)


def draw_over_hair(
    canvas: Canvas, worn: Iterable[Accessory], character: Character, hair: Tones
) -> None:
    """Draw what lies on top of the hair."""
    _draw(canvas, worn, character, hair, _OVER_HAIR)


def _draw(
    canvas: Canvas,
    worn: Iterable[Accessory],
    character: Character,
    hair: Tones,
    painters: dict[Accessory, Painter],
) -> None:
    for accessory in worn:
        if accessory in painters:
            painters[accessory](canvas, character, hair)


def _glasses(canvas: Canvas, _character: Character, _hair: Tones) -> None:
    lenses = [
        smooth_loop([(x - 9, 2), (x, 0), (x + 9, 2), (x + 8.4, 14), (x, 16.6), (x - 8.4, 14)], 5)
        for x in (EYE_DISTANCE, -EYE_DISTANCE)
    ]
    frame = (86, 34, 48)
    with canvas.inside(lenses, 0.16):
        for lens in lenses:
            canvas.fill(lens, WHITE)
    for lens in lenses:
        canvas.stroke(np.concatenate([lens, lens[:2]]), frame, 1.7, (1, 1))
    canvas.stroke(np.array([(-5.0, 5.5), (0.0, 4.2), (5.0, 5.5)]), frame, 1.7, (1, 1))
    for side in (1, -1):
        canvas.stroke(np.array([(22.0 * side, 5.0), (29.0 * side, 2.5)]), frame, 1.5, (1, 1))


def _eyepatch(canvas: Canvas, _character: Character, _hair: Tones) -> None:
    for strap in ([(-31, -3), (-26, 0), (-20, 2)], [(-6, 6), (10, -4), (27, -14)]):
        canvas.stroke(smooth_curve(strap, 6), (130, 122, 150), 1.6, (1, 1))
    patch = smooth_loop([(-22, 0), (-13.6, -2.5), (-5.5, 0), (-5, 10), (-13.6, 17), (-22, 10)], 6)
    canvas.fill(patch, (246, 246, 250), (112, 104, 134))
    canvas.stroke(smooth_curve([(-19, 6), (-13.6, 7.5), (-8, 6)], 5), (196, 194, 210), 1.0)


def _scarf(canvas: Canvas, character: Character, _hair: Tones) -> None:
    tones = Tones.of(character.ornament)
    canvas.fill(_SCARF_END, tones.dark, tones.line)
    canvas.fill(_SCARF, tones.base, tones.line)
    fold = smooth_curve([(-18, 45), (-4, 52), (16, 47)], 6)
    canvas.stroke(fold, tones.line, 1.0, (0.3, 0.3))


_SCARF = smooth_loop([(-20, 36), (0, 41), (20, 36), (24, 48), (10, 57), (-10, 57), (-24, 48)], 6)
_SCARF_END = np.array([(6.0, 52.0), (18.0, 50.0), (23.0, 78.0), (11.0, 80.0)])


def _bow(centre: tuple[float, float], size: float) -> list[Points]:
    """Two loops and a knot."""
    loop = np.array([(0.0, 0.0), (0.8, -0.7), (1.15, -0.5), (1.1, 0.45), (0.75, 0.65)])
    shapes = [smooth_loop(loop * (side, 1), 5) for side in (1, -1)]
    return [shape * size + centre for shape in (*shapes, ellipse((0, 0), (0.26, 0.3), 12))]


_USUAL_BOW_PLACE = ((25, -38),)
_BOW_PLACES: dict[HairStyle, tuple[tuple[float, float], ...]] = {
    "twin tails": ((36, -27), (-36, -27)),
    "ponytail": ((22, -45),),
}


def _hair_ribbon(canvas: Canvas, character: Character, _hair: Tones) -> None:
    tones = Tones.of(character.ornament)
    for place in _BOW_PLACES.get(character.style, _USUAL_BOW_PLACE):
        for shape in _bow(place, 9.5):
            canvas.fill(shape, tones.base, tones.line)


def _cat_ears(canvas: Canvas, _character: Character, hair: Tones) -> None:
    for side in (1, -1):
        ear = np.array([(35.0, -28.0), (38.0, -46.0), (35.0, -62.0), (22.0, -53.0), (12.0, -45.0)])
        inner = (ear - (28.0, -44.0)) * 0.6 + (29.0, -44.0)
        canvas.fill(ear * (side, 1), hair.base, hair.line)
        canvas.fill(inner * (side, 1), (246, 190, 196), mix(hair.line, WHITE, 0.3))


def _beret(canvas: Canvas, character: Character, _hair: Tones) -> None:
    tones = Tones.of(character.ornament)
    crown = smooth_loop(
        [(-40, -26), (-44, -42), (-24, -57), (6, -60), (34, -50), (40, -32), (22, -31), (-8, -33)],
        6,
    )
    canvas.fill(
        np.array([(0.0, -58.0), (3.5, -66.0), (6.0, -65.0), (5.0, -58.0)]), tones.dark, tones.line
    )
    canvas.fill(crown, tones.base, tones.line)
    shine = smooth_curve([(-32, -42), (-16, -51), (6, -54)], 6)
    canvas.stroke(shine, tones.light, 3.0)
    band = smooth_curve([(-39, -26), (-8, -33), (22, -31), (39, -31)], 6)
    canvas.stroke(band, tones.dark, 3.2, (0.8, 0.8))


def _hair_clip(canvas: Canvas, character: Character, _hair: Tones) -> None:
    tones = Tones.of(character.ornament)
    for low in (-17.0, -11.5):
        bar = np.array([(17.0, low), (28.5, low + 3.5), (28.0, low + 6.5), (16.5, low + 3.0)])
        canvas.fill(bar, tones.base, tones.line)


def _hair_flower(canvas: Canvas, _character: Character, _hair: Tones) -> None:
    centre = np.array((27.0, -24.0))
    for turn in np.arange(5) * (2 * np.pi / 5) - 0.4:
        petal = centre + 6.2 * np.array((np.cos(turn), np.sin(turn)))
        canvas.fill(ellipse((petal[0], petal[1]), (4.9, 4.9), 16), (252, 246, 240), (190, 120, 130))
    canvas.fill(ellipse((27, -24), (3.4, 3.4), 14), (246, 196, 74), (170, 110, 40))


def _hairband(canvas: Canvas, character: Character, _hair: Tones) -> None:
    tones = Tones.of(character.ornament)
    x = np.linspace(-38, 38, 19)
    outer = np.stack([x, -45.5 + 0.023 * x**2], axis=1)
    band = np.concatenate([outer, (outer + np.array((0, 6.0)))[::-1]])
    canvas.fill(band, tones.base, tones.line)
    canvas.stroke(outer[4:12] + np.array((0, 2.2)), tones.light, 1.4)


def _headphones(canvas: Canvas, character: Character, _hair: Tones) -> None:
    tones = Tones.of(character.ornament)
    angle = np.linspace(np.pi - 0.05, 2 * np.pi + 0.05, 24)
    arc = np.stack([42 * np.cos(angle), -4 + 50 * np.sin(angle)], axis=1)
    canvas.stroke(arc, tones.line, 5.5, (1, 1))
    canvas.stroke(arc, tones.base, 3.2, (1, 1))
    for side in (1, -1):
        cup = ellipse((39.5 * side, 4), (7.5, 12), 20)
        canvas.fill(cup, tones.base, tones.line)
        canvas.fill(ellipse((40.5 * side, 4), (4.0, 7.5), 16), (240, 98, 84), tones.line)


_ON_BODY: dict[Accessory, Painter] = {"scarf": _scarf}
_ON_FACE: dict[Accessory, Painter] = {"glasses": _glasses, "eyepatch": _eyepatch}
_OVER_HAIR: dict[Accessory, Painter] = {
    "beret": _beret,
    "cat ears": _cat_ears,
    "hair clip": _hair_clip,
    "hair flower": _hair_flower,
    "hair ribbon": _hair_ribbon,
    "hairband": _hairband,
    "headphones": _headphones,
}
