"""Drawn leaves: grown, posed, coloured by the season, lit, blemished and laid on paper."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldmark.data.samples.drawing import (
    SIZE,
    Drawing,
    Field,
    Points,
    blur,
    ellipse,
    fill_mask,
    smooth_loop,
    soft_noise,
)
from fieldmark.data.samples.foliage import Foliage, grow_leaf, turn
from fieldmark.data.samples.species import SPECIES, Species

Picture = NDArray[np.float32]

_SPECIES_BY_NAME = {species.name: species for species in SPECIES}

PAPERS = (
    (250, 249, 245),
    (244, 237, 221),
    (232, 232, 230),
    (214, 217, 216),
    (226, 214, 190),
    (223, 232, 231),
    (196, 178, 150),
)
GREENS = ((58, 112, 44), (84, 138, 52), (44, 94, 58), (108, 150, 60), (70, 124, 76))
VEIN_TINT = np.array((226, 228, 160), dtype=np.float32)
SPOT_TINT = np.array((92, 60, 34), dtype=np.float32)
WOOD_TINT = np.array((120, 92, 58), dtype=np.float32)


@dataclass(frozen=True)
class _Masks:
    """Coverage of each part of the posed leaf, 0 to 1, of shape (SIZE, SIZE)."""

    blade: Field
    left_half: Field
    veins: Field
    stalk: Field


def draw_leaf(name: str, rng: np.random.Generator) -> Drawing:
    """Return one leaf of the named species on paper."""
    species = _SPECIES_BY_NAME[name]
    foliage = _pose(grow_leaf(species, rng), rng)
    masks = _cover(foliage, rng)
    light = _light_direction(rng)
    picture = _paper(rng)
    _cast_shadow(picture, masks, light, rng)
    tissue = _tissue(masks, species, rng)
    tissue *= _relief(masks, light, species.gloss)[:, :, None]
    picture += (tissue - picture) * np.maximum(masks.blade, masks.stalk)[:, :, None]
    return Drawing(_expose(picture, rng))


def _pose(foliage: Foliage, rng: np.random.Generator) -> Foliage:
    """Bend the leaf along its midrib, turn it, and fit it into the picture."""
    bend, slope = rng.normal(0, 0.35), rng.normal(1, 0.04)
    flip = 1 if rng.uniform() < 0.5 else -1
    angle = -np.pi / 2 + rng.normal(0, 0.6)
    room = SIZE * rng.uniform(0.78, 1.0)
    place = np.clip(rng.normal(0.5, 0.2, 2), 0.05, 0.95)

    def move(points: Points) -> Points:
        turned = turn(_bend(points * (1, flip * slope), bend), angle)
        low, extent = turned.min(axis=0), np.ptp(turned, axis=0)
        scale = room / float(extent.max())
        return np.asarray((turned - low) * scale + (SIZE - extent * scale) * place)

    return foliage.moved(move)


def _bend(points: Points, curvature: float) -> Points:
    """Wrap the straight midrib onto an arc; lengths along it are kept."""
    if abs(curvature) < 1e-3:
        return points
    angle = points[:, 0] * curvature
    radius = 1 / curvature - points[:, 1]
    return np.stack([radius * np.sin(angle), 1 / curvature - radius * np.cos(angle)], axis=1)


def _cover(foliage: Foliage, rng: np.random.Generator) -> _Masks:
    blade = fill_mask(foliage.blades)
    if rng.uniform() < 0.3:
        blade = blade * (1 - fill_mask(_bites(foliage.blades, rng)))
    veins = np.maximum(fill_mask(foliage.ribs), 0.75 * fill_mask(foliage.veins))
    return _Masks(blade, fill_mask(foliage.left_halves), veins * blade, fill_mask(foliage.stalks))


def _bites(blades: tuple[Points, ...], rng: np.random.Generator) -> list[Points]:
    """Holes within the blade and pieces torn from its edge."""
    bites = []
    for _ in range(int(rng.integers(1, 4))):
        blade = blades[int(rng.integers(len(blades)))]
        edge = blade[int(rng.integers(len(blade)))]
        centre = edge + (blade.mean(axis=0) - edge) * rng.uniform(0.0, 0.8)
        radius = rng.uniform(1.2, 4.0)
        ring = ellipse((float(centre[0]), float(centre[1])), (radius, radius), steps=7)
        bites.append(smooth_loop(ring + rng.normal(0, radius * 0.18, ring.shape), steps=4))
    return bites


def _light_direction(rng: np.random.Generator) -> tuple[float, float]:
    """Unit vector of the picture plane that points towards the light."""
    angle = rng.normal(-2.2, 0.5)
    return float(np.cos(angle)), float(np.sin(angle))


def _paper(rng: np.random.Generator) -> Picture:
    """Textured paper; at times the edge of a second sheet lies on it, or a collector's label."""
    texture = 1 + 0.015 * soft_noise(rng, 5) + 0.008 * soft_noise(rng, 40)
    picture: Picture = texture[:, :, None] * _paper_colour(rng)
    if rng.uniform() < 0.45:
        _lay_sheet(picture, rng)
    if rng.uniform() < 0.3:
        _stick_label(picture, rng)
    return picture


def _paper_colour(rng: np.random.Generator) -> Picture:
    colour = np.array(PAPERS[int(rng.integers(len(PAPERS)))]) + rng.normal(0, 4, 3)
    return colour.astype(np.float32)


def _lay_sheet(picture: Picture, rng: np.random.Generator) -> None:
    """Cover one side of a straight line by another paper, which throws a soft shadow."""
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-4, 44)
    ramp = np.arange(SIZE, dtype=np.float32) - SIZE / 2
    beyond = float(np.cos(angle)) * ramp + float(np.sin(angle)) * ramp[:, None] - offset
    cover = np.clip(beyond + 0.5, 0, 1)[:, :, None]
    shadow = 0.22 * np.exp(np.minimum(beyond, 0) / 4)[:, :, None]
    shade = rng.uniform(0.94, 1.0)
    picture *= (1 - shadow) * (1 - cover)
    picture += cover * shade * _paper_colour(rng)


def _stick_label(picture: Picture, rng: np.random.Generator) -> None:
    """A white slip with lines of unreadable writing in one of the corners."""
    height, width = int(rng.integers(16, 26)), int(rng.integers(28, 46))
    top, left = int(rng.integers(3, 9)), int(rng.integers(3, 9))
    if rng.uniform() < 0.7:
        top = SIZE - height - top
    if rng.uniform() < 0.6:
        left = SIZE - width - left
    picture[top + 1 : top + height + 2, left + 1 : left + width + 2] *= 0.86
    slip = picture[top : top + height, left : left + width]
    slip[:] = (248, 246, 238)
    for line in range(4, height - 3, 4):
        length = int(width * rng.uniform(0.4, 0.85))
        ink = rng.uniform(0.5, 1.0, (length, 1)).astype(np.float32)
        slip[line, 3 : 3 + length] *= ink


def _cast_shadow(
    picture: Picture, masks: _Masks, light: tuple[float, float], rng: np.random.Generator
) -> None:
    height = rng.uniform(1.5, 5.0)
    shape = np.maximum(masks.blade, masks.stalk)
    shift = (round(-light[1] * height), round(-light[0] * height))
    moved = np.roll(shape, shift, axis=(0, 1))
    wide, near = blur(moved, height * 0.9), blur(shape, 1.2)
    dark = rng.uniform(0.3, 0.5) * wide + 0.18 * near
    picture *= 1 - dark[:, :, None] * np.array((1.0, 0.95, 0.85), dtype=np.float32)


def _tissue(masks: _Masks, species: Species, rng: np.random.Generator) -> Picture:
    """Colour of the leaf before light: season, veins, browned edge and spots."""
    first, second = _season(species, rng)
    near_veins = blur(masks.veins, 2.2)
    inside = blur(masks.blade, 5)
    turn = 0.5 + 0.3 * soft_noise(rng, 4) + 1.1 * (0.82 - inside) - 0.9 * near_veins
    turn = np.clip(turn, 0, 1)[:, :, None]
    tissue: Picture = first * (1 - turn) + second * turn
    tissue *= (1 + 0.035 * soft_noise(rng, 42))[:, :, None]
    for strength, place in _stains(masks, rng):
        tissue += (SPOT_TINT - tissue) * (strength * place)[:, :, None]
    tissue += (VEIN_TINT - tissue) * (rng.uniform(0.35, 0.65) * masks.veins)[:, :, None]
    wood = 0.5 * WOOD_TINT + 0.5 * (first * 0.5 + VEIN_TINT * 0.5)
    tissue += (wood - tissue) * masks.stalk[:, :, None]
    return tissue


def _season(species: Species, rng: np.random.Generator) -> tuple[Picture, Picture]:
    """Colours near the veins and near the edge."""
    green = np.array(GREENS[int(rng.integers(len(GREENS)))]) + rng.normal(0, 7, 3)
    if rng.uniform() >= species.autumn:
        return green.astype(np.float32), (green * rng.uniform(1.08, 1.3)).astype(np.float32)
    one, other = rng.permutation(np.array(species.autumn_colours))[:2] + rng.normal(0, 8, (2, 3))
    start = green if rng.uniform() < 0.4 else one
    return start.astype(np.float32), other.astype(np.float32)


def _stains(masks: _Masks, rng: np.random.Generator) -> list[tuple[float, Field]]:
    """Brown spots and, sometimes, a dry edge: strength and place of each."""
    stains: list[tuple[float, Field]] = []
    if rng.uniform() < 0.4:
        speckle = np.clip(2.4 * (soft_noise(rng, 16) - rng.uniform(1.2, 1.9)), 0, 1)
        stains.append((rng.uniform(0.4, 0.85), speckle.astype(np.float32)))
    if rng.uniform() < 0.25:
        rim = np.clip(1.5 * (0.72 - blur(masks.blade, 3)) + 0.25 * soft_noise(rng, 9), 0, 1)
        stains.append((rng.uniform(0.3, 0.7), rim.astype(np.float32)))
    return stains


def _relief(masks: _Masks, light: tuple[float, float], gloss: float) -> Field:
    """Brightness from the fold at the midrib, the grooves of the veins and the curved edge."""
    dome = blur(masks.blade, 4) + 0.5 * blur(masks.blade, 1.2) - 0.55 * blur(masks.veins, 1.0)
    down, right = np.gradient(dome)
    slope = -(right * light[0] + down * light[1])
    fold = blur(masks.left_half, 0.8) - 0.5
    shine = np.clip(slope * 4, 0, 1) ** 2 + np.clip(blur(masks.left_half, 5) - 0.55, 0, 1)
    brightness = 0.97 + 1.1 * slope + 0.13 * fold * (1 if light[0] < 0 else -1)
    return np.asarray(brightness + gloss * 0.5 * shine, dtype=np.float32)


def _expose(picture: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Uneven light over the sheet, white balance, sensor noise."""
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-1, 1, SIZE, dtype=np.float32)
    tilt = rng.uniform(0, 0.1)
    light = 1 + tilt * (float(np.cos(angle)) * ramp[:, None] + float(np.sin(angle)) * ramp)
    balance = (rng.normal(1, 0.02, 3) * rng.normal(0.97, 0.04)).astype(np.float32)
    grain = rng.standard_normal(picture.shape, dtype=np.float32) * rng.uniform(0.8, 3.0)
    exposed = picture * light[:, :, None] * balance + grain
    return np.clip(exposed, 0, 255).astype(np.uint8)
