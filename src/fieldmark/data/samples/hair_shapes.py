"""The shapes of hair styles, in head coordinates (see `canvas`)."""

from __future__ import annotations

import numpy as np

from fieldmark.data.samples.cast import Bangs, HairStyle
from fieldmark.data.samples.drawing import Points, ellipse, smooth_curve, smooth_loop


def mirrored(points: Points) -> Points:
    """Return the shape on the other side of the face."""
    return np.asarray(points * (-1, 1))


def _symmetric(*right_side: tuple[float, float]) -> Points:
    """A smooth loop through points of the right side, top to bottom, and their mirror images."""
    right = np.array(right_side, dtype=np.float64)
    return smooth_loop(np.concatenate([right, mirrored(right)[::-1]]), 6)


def _tufts(radii: tuple[float, ...], start: float, end: float, inner: float) -> Points:
    """Pointed tufts around the skull from one angle to another, in radians from the right.

    Every tuft leans to the side it starts from, and its back is rounded.
    """
    step = (end - start) / len(radii)
    corners = []
    for index, reach in enumerate(radii):
        root = start + step * index
        corners += [(root, inner), (root - 0.05 * step, 0.6 * inner + 0.4 * reach)]
        corners += [(root + 0.12 * step, reach), (root + 0.72 * step, 0.62 * inner + 0.38 * reach)]
    corners.append((end, inner))
    angles, reaches = np.array(corners).T
    return np.stack([reaches * np.cos(angles), -6 + reaches * np.sin(angles)], axis=1)


_SHORT = _symmetric((10, -44), (30, -34), (38, -10), (37, 10), (30, 26), (16, 30))
_TAIL = smooth_loop(
    [(30, -30), (46, -36), (60, -22), (65, 8), (60, 36), (63, 58), (50, 46), (44, 18), (37, -8)], 6
)
_BRAID = [ellipse((38 + 1.2 * i, 20 + 11 * i), (8.2 - 0.5 * i, 8.0), 16) for i in range(6)]

BACK: dict[HairStyle, tuple[Points, ...]] = {
    "long hair": (
        _symmetric((12, -46), (34, -34), (42, -6), (45, 30), (48, 60), (42, 82), (16, 78)),
    ),
    "short hair": (_SHORT,),
    "bob cut": (_symmetric((12, -45), (34, -34), (43, -6), (46, 18), (41, 34), (26, 39)),),
    "twin tails": (_TAIL, mirrored(_TAIL), _SHORT),
    "ponytail": (
        smooth_loop(
            [
                (8, -44),
                (26, -60),
                (48, -52),
                (60, -24),
                (58, 14),
                (64, 48),
                (48, 40),
                (43, 8),
                (34, -24),
            ],
            6,
        ),
        _SHORT,
    ),
    "hair bun": (ellipse((2, -54), (16, 14)), _SHORT),
    "double bun": (ellipse((29, -44), (13, 12.5)), ellipse((-29, -44), (13, 12.5)), _SHORT),
    "twin braids": (*_BRAID[::-1], *(mirrored(ring) for ring in _BRAID[::-1]), _SHORT),
    "spiky hair": (_tufts((40, 49, 47, 52, 47, 50, 55, 50, 46, 50, 42), 0.55, -np.pi - 0.55, 36),),
}

_ROUND_TOP = smooth_curve(
    [
        (-33, 10), (-37.5, -8), (-35, -27), (-23, -42), (0, -49),
        (23, -42), (35, -27), (37.5, -8), (33, 10),
    ],
    6,
)  # fmt: skip
_SPIKY_TOP = np.concatenate(
    [
        [(-32.0, 6.0)],
        _tufts((45, 51, 57, 52, 58, 50, 44), -np.pi + 0.05, -0.05, 38),
        [(32.0, 6.0)],
    ]
)


def cap_top(style: HairStyle) -> Points:
    """Return the upper outline of the hair, from the left temple over the crown to the right."""
    return _SPIKY_TOP if style == "spiky hair" else _ROUND_TOP


# From the right temple to the left: tips of locks and the notches between them, in turn.
FRINGES: dict[Bangs, tuple[tuple[float, float], ...]] = {
    "blunt": (
        (33, 12), (27, -5), (23, -1), (16, -6), (11, -0.5), (5, -7), (0, -0.5),
        (-5, -6), (-11, -0.5), (-17, -7), (-23, -1), (-27, -5), (-33, 12),
    ),
    "messy": (
        (33, 13), (25, -8), (20, 2), (13, -12), (7, 3), (0, -12),
        (-6, 1), (-12, -11), (-19, 3), (-25, -8), (-33, 13),
    ),
    "parted": (
        (33, 14), (28, -2), (25, 7), (15, -14), (2, -35),
        (-15, -14), (-25, 7), (-28, -2), (-33, 14),
    ),
    "swept": (
        (33, 14), (28, -2), (26, 5), (14, -33), (3, -7), (1, -13),
        (-8, 0), (-12, -10), (-21, 5), (-26, -6), (-33, 14),
    ),
    "spiky": (
        (32, 9), (26, -10), (22, 0), (15, -16), (9, 3), (3, -16),
        (-5, 4), (-10, -15), (-17, 1), (-25, -11), (-32, 9),
    ),
}  # fmt: skip

SIDE_LOCK_ENDS: dict[HairStyle, float] = {
    "long hair": 50,
    "short hair": 24,
    "bob cut": 35,
    "twin tails": 38,
    "ponytail": 34,
    "hair bun": 30,
    "double bun": 36,
    "twin braids": 24,
    "spiky hair": 14,
}


def side_lock(end: float) -> Points:
    """Return the lock before the right ear, hanging down to `end`."""
    return smooth_loop(
        [
            (30, -16),
            (36, -8),
            (38, 0.35 * end),
            (34, 0.75 * end),
            (30, end),
            (28, 0.7 * end),
            (29, 4),
        ],
        6,
    )
