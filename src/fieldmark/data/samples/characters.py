"""Drawn characters: a face from the cast in one scene, and the tags that describe it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fieldmark.data.samples.accessories import draw_on_body, draw_on_face, draw_over_hair
from fieldmark.data.samples.canvas import FINE_SIZE, Canvas, Pose
from fieldmark.data.samples.cast import (
    CAST,
    EYE_COLOURS,
    HAIR_COLOURS,
    Accessory,
    Character,
)
from fieldmark.data.samples.drawing import OVERSAMPLING, SIZE, Colour, Drawing, Pixels, mix
from fieldmark.data.samples.faces import (
    EXPRESSION_WEIGHTS,
    EXPRESSIONS,
    Expression,
    Outfit,
    draw_body,
    draw_features,
    draw_head,
)
from fieldmark.data.samples.hair import Tones, comb, draw_back_hair, draw_front_hair

_CHARACTERS_BY_NAME = {character.name: character for character in CAST}

ACCESSORY_SHARE = 0.88
TAG_SHARE = 0.9
SKINS: tuple[Colour, ...] = ((255, 232, 216), (252, 222, 202), (246, 210, 184))
CLOTHES: tuple[Colour, ...] = (
    (238, 238, 244),
    (88, 104, 160),
    (214, 130, 130),
    (126, 172, 156),
    (70, 72, 92),
    (226, 190, 130),
)
OUTFITS: tuple[Outfit, ...] = ("school uniform", "hoodie", "shirt", "sweater")
BACKGROUNDS: tuple[tuple[Colour, Colour], ...] = (
    ((255, 240, 236), (250, 208, 214)),
    ((236, 246, 255), (180, 210, 240)),
    ((240, 252, 240), (190, 226, 206)),
    ((255, 250, 228), (250, 220, 168)),
    ((244, 238, 255), (204, 192, 236)),
    ((248, 248, 248), (216, 218, 224)),
    ((120, 126, 170), (58, 60, 104)),
)
PATTERNS = ("plain", "dots", "stripes", "bubbles")


@dataclass(frozen=True)
class _Scene:
    """What one picture shows beyond who it is."""

    pose: Pose
    line_width: float
    expression: Expression
    worn: tuple[Accessory, ...]
    outfit: Outfit
    cloth: Colour
    skin: Colour


def draw_character(name: str, rng: np.random.Generator) -> Drawing:
    """Return one picture of the named character, with tags of which a few are left out."""
    character = _CHARACTERS_BY_NAME[name]
    scene = _set_scene(character, rng)
    canvas = Canvas(_background(rng), scene.pose, scene.line_width)
    _paint_figure(canvas, character, scene, rng)
    tags = [tag for tag in _describe(character, scene) if rng.uniform() < TAG_SHARE]
    return Drawing(_develop(canvas.image, rng), tuple(tags))


def _set_scene(character: Character, rng: np.random.Generator) -> _Scene:
    pose = Pose(
        centre=(SIZE / 2 + rng.normal(0, 4), SIZE * 0.53 + rng.normal(0, 3.5)),
        zoom=float(np.clip(rng.normal(1.0, 0.1), 0.8, 1.25)),
        tilt=rng.normal(0, 0.13),
        aside=float(np.clip(rng.normal(0, 2.2), -4.5, 4.5)),
        mirrored=bool(rng.uniform() < 0.5),
    )
    return _Scene(
        pose,
        line_width=rng.uniform(0.7, 1.3),
        expression=EXPRESSIONS[int(rng.choice(len(EXPRESSIONS), p=EXPRESSION_WEIGHTS))],
        worn=tuple(item for item in character.accessories if rng.uniform() < ACCESSORY_SHARE),
        outfit=OUTFITS[int(rng.integers(len(OUTFITS)))],
        cloth=_vary(CLOTHES[int(rng.integers(len(CLOTHES)))], rng),
        skin=_vary(SKINS[int(rng.integers(len(SKINS)))], rng, spread=3.0),
    )


def _vary(colour: Colour, rng: np.random.Generator, spread: float = 6.0) -> Colour:
    red, green, blue = np.clip(np.array(colour) + rng.normal(0, spread, 3), 0, 255)
    return int(red), int(green), int(blue)


def _background(rng: np.random.Generator) -> Image.Image:
    """A soft gradient with dots, stripes, bubbles or nothing on it."""
    one, other = BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))]
    corners = np.array([[one, mix(one, other, 0.5)], [mix(one, other, 0.6), other]], dtype=np.uint8)
    turned = np.rot90(corners, int(rng.integers(4)))
    image = Image.fromarray(np.ascontiguousarray(turned))
    image = image.resize((FINE_SIZE, FINE_SIZE), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(image)
    pale = mix(mix(one, other, 0.4), (255, 255, 255), 0.45)
    pattern = PATTERNS[int(rng.integers(len(PATTERNS)))]
    if pattern == "dots":
        for row in range(-1, 9):
            for column in range(-1, 9):
                x, y = 48 * column + 24 * (row % 2), 48 * row
                pen.ellipse((x - 9, y - 9, x + 9, y + 9), fill=pale)
    elif pattern == "stripes":
        for start in range(-FINE_SIZE, FINE_SIZE, 60):
            pen.line((start, FINE_SIZE, start + FINE_SIZE, 0), fill=pale, width=20)
    elif pattern == "bubbles":
        for x, y, radius in rng.uniform((0, 0, 8), (FINE_SIZE, FINE_SIZE, 44), (9, 3)).tolist():
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=pale)
    return image


def _paint_figure(
    canvas: Canvas, character: Character, scene: _Scene, rng: np.random.Generator
) -> None:
    """Paint from the farthest to the nearest."""
    hair = comb(character, rng)
    hair_tones = Tones.of(_vary(HAIR_COLOURS[character.hair], rng))
    skin = Tones(
        scene.skin,
        dark=mix(scene.skin, (206, 120, 122), 0.42),
        light=scene.skin,
        line=mix(scene.skin, (110, 52, 56), 0.75),
    )
    iris = _vary(EYE_COLOURS[character.eyes], rng)
    with canvas.at_depth(-0.7):
        draw_back_hair(canvas, hair, hair_tones)
    with canvas.at_depth(-0.3):
        draw_body(canvas, scene.outfit, scene.cloth, skin)
        draw_on_body(canvas, scene.worn, character, hair_tones)
    draw_head(canvas, hair.cap, skin, scene.expression)
    draw_features(canvas, character, iris, hair_tones.line, scene.expression)
    with canvas.at_depth(0.7):
        draw_on_face(canvas, scene.worn, character, hair_tones)
    with canvas.at_depth(0.4):
        draw_front_hair(canvas, hair, hair_tones)
    with canvas.at_depth(0.1):
        draw_over_hair(canvas, scene.worn, character, hair_tones)


def _describe(character: Character, scene: _Scene) -> tuple[str, ...]:
    """Tags of what is really drawn: nothing about a missing accessory or about shut eyes."""
    eyes = () if scene.expression.lids == "closed" else (f"{character.eyes} eyes",)
    return (
        character.subject,
        f"{character.hair} hair",
        character.style,
        *eyes,
        *scene.worn,
        *scene.expression.tags,
        scene.outfit,
    )


def _develop(image: Image.Image, rng: np.random.Generator) -> Pixels:
    """Average down to the final size; add coloured light from one side, exposure and grain."""
    picture = np.asarray(image.reduce(OVERSAMPLING), dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-0.7, 0.7, SIZE, dtype=np.float32)
    side = float(np.cos(angle)) * ramp[:, None] + float(np.sin(angle)) * ramp
    tint = (rng.normal(0, 0.035, 3) + rng.uniform(0.02, 0.14)).astype(np.float32)
    balance = (rng.normal(1, 0.015, 3) * rng.normal(0.98, 0.04)).astype(np.float32)
    lit = picture * (1 + side[:, :, None] * tint) * balance
    grain: NDArray[np.float32] = rng.standard_normal(picture.shape, dtype=np.float32)
    return np.clip(lit + grain * rng.uniform(0.5, 2.5), 0, 255).astype(np.uint8)
