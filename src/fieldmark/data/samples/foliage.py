"""The geometry of a leaf: blades with their margins, veins and stalks, before any pose or colour.

Coordinates are in leaf lengths: the base lies at the origin, the tip near (1, 0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fieldmark.data.samples.drawing import Points, normals, ribbon, smooth_curve
from fieldmark.data.samples.species import Margin, MarginForm, Species

SAMPLES_PER_SIDE = 200
NUM_BLADE_VARIANTS = 3


@dataclass(frozen=True)
class Foliage:
    """Filled shapes of one leaf, or of one of its blades, each an array (N, 2)."""

    blades: tuple[Points, ...] = ()
    left_halves: tuple[Points, ...] = ()
    ribs: tuple[Points, ...] = ()
    veins: tuple[Points, ...] = ()
    stalks: tuple[Points, ...] = ()

    def groups(self) -> tuple[tuple[Points, ...], ...]:
        """The shapes in the order of the fields."""
        return self.blades, self.left_halves, self.ribs, self.veins, self.stalks

    def moved(self, move: Callable[[Points], Points]) -> Foliage:
        """The same shapes with every point moved; `move` is called once with all of them."""
        shapes = [shape for group in self.groups() for shape in group]
        ends = np.cumsum([len(shape) for shape in shapes])
        pieces = iter(np.split(move(np.concatenate(shapes)), ends[:-1]))
        return Foliage(*(tuple(next(pieces) for _ in group) for group in self.groups()))


@dataclass(frozen=True)
class _Placement:
    """Where a blade sits: its base, its angle in radians and its length in leaf lengths."""

    along: float
    angle: float
    length: float

    def __call__(self, points: Points) -> Points:
        return np.asarray(turn(points * self.length, self.angle) + np.array((self.along, 0.0)))


def turn(points: Points, angle: float) -> Points:
    """Return points turned about the origin by an angle in radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = points[:, 0], points[:, 1]
    return np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=1)


def grow_leaf(species: Species, rng: np.random.Generator) -> Foliage:
    """Return one leaf of a species; every call differs as two leaves of one tree do."""
    placements = _PLACEMENTS[species.arrangement](species, rng)
    num_variants = min(NUM_BLADE_VARIANTS, len(placements))
    variants = [_grow_blade(species, rng) for _ in range(num_variants)]
    placed = [
        variants[index % num_variants].moved(placement)
        for index, placement in enumerate(placements)
    ]
    joined = zip(*(blade.groups() for blade in placed), strict=True)
    blades, left_halves, ribs, veins, _ = (sum(groups, ()) for groups in joined)
    return Foliage(blades, left_halves, ribs, veins, _stalks(species))


def _single(_species: Species, _rng: np.random.Generator) -> list[_Placement]:
    return [_Placement(0.0, 0.0, 1.0)]


def _lobes(species: Species, rng: np.random.Generator) -> list[_Placement]:
    spread = rng.uniform(0.82, 0.95)
    placements = [_Placement(0.0, 0.0, 1.0)]
    for index in range(1, species.num_parts + 1):
        length = 1.06 - 0.16 * index**1.6
        for sign in (-1, 1):
            angle = sign * spread * index + rng.normal(0, 0.04)
            placements.append(_Placement(0.0, angle, length * rng.uniform(0.95, 1.05)))
    return placements


def _leaflets(species: Species, rng: np.random.Generator) -> list[_Placement]:
    length = rng.uniform(0.33, 0.39)
    angle = rng.uniform(0.85, 1.1)
    placements = [_Placement(1 - length, 0.0, length)]
    for index in range(species.num_parts):
        along = 0.1 + (0.86 - length) * index / (species.num_parts - 1)
        reach = length * (0.86 + 0.16 * np.sin(np.pi * (index + 0.7) / species.num_parts))
        for sign in (-1, 1):
            lean = sign * angle + rng.normal(0, 0.08)
            placements.append(_Placement(along + rng.normal(0, 0.012), lean, reach))
    return placements


def _needles(species: Species, rng: np.random.Generator) -> list[_Placement]:
    lean = rng.uniform(0.8, 1.1)
    placements = [_Placement(0.93, rng.normal(0, 0.1), 0.12)]
    for index in range(species.num_parts):
        along = 0.02 + 0.92 * index / species.num_parts
        reach = 0.23 * min(1.0, 2.4 - 1.8 * along) * min(1.0, 0.75 + along)
        for sign in (-1, 1):
            angle = sign * (lean - 0.45 * along) + rng.normal(0, 0.07)
            placements.append(_Placement(along, angle, reach * rng.uniform(0.85, 1.08)))
    return placements


_PLACEMENTS = {"single": _single, "lobes": _lobes, "leaflets": _leaflets, "needles": _needles}


def _grow_blade(species: Species, rng: np.random.Generator) -> Foliage:
    """One blade with its base at the origin and its tip at (1, 0)."""
    control = np.array(species.outline)
    control[1:-1] *= 1 + rng.normal(0, 0.02, (len(control) - 2, 2))
    control[:, 1] *= rng.normal(1, 0.07)
    sides, veins = [], []
    for sign in (1, -1):
        half = smooth_curve(control * (1, rng.normal(1, 0.03)))
        side = _cut_margin(half, species.margin, rng) * (1, sign)
        sides.append(side)
        veins += list(_VEINS[species.venation](side, species.num_veins, rng))
    left, right = sides
    outline = np.concatenate([left, right[::-1]])
    return Foliage((outline,), (left,), (_midrib(species),), tuple(veins))


def _cut_margin(side: Points, margin: Margin, rng: np.random.Generator) -> Points:
    """Give a half outline its teeth or lobes."""
    if margin.form == "entire":
        return side
    side = _resample(side)
    along = np.linspace(0, 1, len(side))
    count = margin.count + (int(rng.integers(-1, 2)) if margin.count > 6 else 0)
    uneven = along + 0.012 * np.sin(2 * np.pi * (along * 2 + rng.uniform()))
    relief = _tooth(margin.form, uneven * count) * margin.depth * rng.normal(1, 0.1)
    fade = 0.3 if margin.form == "jagged" else 0.05
    relief *= np.clip(along / 0.08, 0, 1) * np.clip((1 - along) / fade, 0, 1)
    outward = normals(side)
    forward = np.stack([outward[:, 1], -outward[:, 0]], axis=1)
    lean = 0.6 if margin.form in ("serrate", "doubly-serrate", "jagged") else 0.0
    return np.asarray(side + relief[:, None] * (outward + lean * forward))


def _resample(path: Points) -> Points:
    """The same path with points at equal distances, so that teeth are of equal size."""
    distance = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    wanted = np.linspace(0, distance[-1], SAMPLES_PER_SIDE)
    return np.stack([np.interp(wanted, distance, path[:, axis]) for axis in (0, 1)], axis=1)


def _tooth(form: MarginForm, position: Points) -> Points:
    """Relief of the margin, about -1 to 1, where `position` counts teeth from the base."""
    phase = position % 1
    if form in ("serrate", "jagged"):
        return np.asarray(phase - 0.3)
    if form == "doubly-serrate":
        return np.asarray(0.6 * phase + 0.45 * ((position * 3) % 1) - 0.35)
    if form == "crenate":
        return np.asarray(np.sqrt(np.abs(np.sin(np.pi * phase))) - 0.6)
    if form == "spiny":
        return np.asarray(np.abs(2 * phase - 1) ** 2.2 - 0.35)
    if form == "lobed":
        return np.asarray(2 * np.abs(np.sin(np.pi * phase)) ** 0.8 - 1.1)
    return np.asarray(np.sin(2 * np.pi * phase))


def _midrib(species: Species) -> Points:
    end = 0.06 if species.venation == "dichotomous" else 0.97
    path = np.stack([np.linspace(0, end, 9), np.zeros(9)], axis=1)
    return ribbon(path, np.linspace(0.026, 0.006, 9))


def _pinnate(side: Points, num_veins: int, rng: np.random.Generator) -> Points:
    if num_veins == 0:
        return np.empty((0, 2, 2))
    sign = _side_sign(side)
    stagger = 0.15 if sign > 0 else 0.0
    order = np.arange(num_veins) + stagger + rng.normal(0, 0.1, num_veins)
    start = 0.07 + 0.84 / num_veins * order
    end = start + (1 - start) * rng.uniform(0.26, 0.31)
    reach = 0.9 * sign * _half_width(side, end)
    elbow = start + 0.4 * (end - start)
    return _veins(_pairs(start, 0 * start), _pairs(elbow, 0.55 * reach), _pairs(end, reach))


def _palmate(side: Points, num_veins: int, rng: np.random.Generator) -> Points:
    """Two rays from the base, then side veins along the midrib."""
    picks = (len(side) * (np.array([0.3, 0.5]) + rng.normal(0, 0.015, 2))).astype(int)
    base = np.full((2, 2), (0.04, 0.0))
    ends = side[picks] * 0.92
    rays = _veins(base, base + (ends - base) * (0.45, 0.58), ends)
    return np.concatenate([rays, _pinnate(side, num_veins, rng)[1:]])


def _parallel(side: Points, num_veins: int, _rng: np.random.Generator) -> Points:
    along = np.linspace(0.03, 0.93, 16)
    shares = (np.arange(num_veins) + 1) / (num_veins + 1)
    across = _side_sign(side) * _half_width(side, along) * shares[:, None]
    return _vein_ribbons(np.stack([np.broadcast_to(along, across.shape), across], axis=-1))


def _dichotomous(side: Points, num_veins: int, rng: np.random.Generator) -> Points:
    """Veins that leave the base together and fork on the way to the outer edge."""
    outer = side[len(side) // 2 :] * 0.95
    place = (np.arange(num_veins) + 0.5) / num_veins
    ends = outer[(place * (len(outer) - 1)).astype(int)]
    forked = outer[(np.minimum(place + 0.045, 1) * (len(outer) - 1)).astype(int)]
    forks = ends * rng.uniform(0.45, 0.7, (num_veins, 1))
    stems = _veins(np.full_like(ends, (0.02, 0.0)), ends / 2, ends)
    return np.concatenate([stems, _veins(forks, (forks + forked) / 2, forked)])


_VEINS = {
    "pinnate": _pinnate,
    "palmate": _palmate,
    "parallel": _parallel,
    "dichotomous": _dichotomous,
}


def _side_sign(side: Points) -> float:
    return float(np.sign(side[len(side) // 2, 1]))


def _half_width(side: Points, at: Points) -> Points:
    """Half width of the blade at distances along the midrib."""
    start = int(np.argmin(side[:, 0]))
    return np.interp(at, side[start:, 0], np.abs(side[start:, 1]))


def _pairs(x: Points, y: Points) -> Points:
    return np.stack([x, y], axis=-1)


def _veins(starts: Points, elbows: Points, ends: Points) -> Points:
    """Ribbons (V, 2N, 2) along parabolas that pass through the elbows halfway."""
    t = np.linspace(0, 1, 9)[None, :, None]
    bend = 2 * elbows - (starts + ends) / 2
    path = (1 - t) ** 2 * starts[:, None] + 2 * t * (1 - t) * bend[:, None] + t**2 * ends[:, None]
    return _vein_ribbons(path)


def _vein_ribbons(paths: Points) -> Points:
    return ribbon(paths, np.linspace(0.012, 0.006, paths.shape[-2]))


def _stalks(species: Species) -> tuple[Points, ...]:
    petiole = smooth_curve([(-species.petiole, 0.03), (-species.petiole / 2, 0.012), (0.03, 0.0)])
    stalks = [ribbon(petiole, np.linspace(0.034, 0.024, len(petiole)))]
    if species.arrangement in ("leaflets", "needles"):
        axis = np.stack([np.linspace(-0.02, 0.93, 12), np.zeros(12)], axis=1)
        stalks.append(ribbon(axis, np.linspace(0.026, 0.01, 12)))
    return tuple(stalks)
