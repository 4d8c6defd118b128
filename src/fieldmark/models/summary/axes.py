"""Where the entries of a tensor lie on the image, axis by axis.

A map (B, C, H, W) has an axis whose neighbours are some pixels apart downwards, and one whose
neighbours are some pixels apart to the right. Reshaping divides and joins axes: patches of 16 px
split the 224 rows of an image into 14 rows of patches and 16 rows inside each. `regroup` follows
that, so that the receptive field of a layer is known however a network writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

Pixels = tuple[float, float]
"""Down and right."""


@dataclass(frozen=True)
class Span:
    """`size` neighbours, each `step` px from the one before; (0, 0) for anything but places.

    spread: px between the first and the last, for tokens that lie in no even order (behind a
        class token); None: (size - 1) steps.
    """

    size: int
    step: Pixels = (0.0, 0.0)
    spread: Pixels | None = None

    @property
    def is_place(self) -> bool:
        """Whether its entries lie at different places of the image."""
        return self.spread is not None or any(self.step)

    @property
    def extent(self) -> Pixels:
        """Pixels between the first and the last."""
        if self.spread is not None:
            return self.spread
        return ((self.size - 1) * self.step[0], (self.size - 1) * self.step[1])


Axis = tuple[Span, ...]
"""Outermost span first; the sizes multiply to the size of the axis."""


def plain(size: int) -> Axis:
    """Return an axis of channels, heads or anything else that is no place."""
    return (Span(size),)


def add(one: Pixels, other: Pixels) -> Pixels:
    """Sum by direction."""
    return (one[0] + other[0], one[1] + other[1])


def is_place(axis: Axis) -> bool:
    """Whether any span of it is one of places."""
    return any(span.is_place for span in axis)


def extent(axis: Axis) -> Pixels:
    """Pixels between the first and the last entry."""
    total: Pixels = (0.0, 0.0)
    for span in axis:
        total = add(total, span.extent)
    return total


def step_of(axis: Axis) -> Pixels | None:
    """Pixels from one entry to the next; None where that is not the same everywhere."""
    joined = _join([span for span in axis if span.size > 1]) or list(axis[:1])
    if len(joined) > 1 or joined[0].spread is not None:
        return None
    return joined[0].step


def resize(axis: Axis, size: int, stride: int = 1) -> Axis:
    """Cut or pad an axis to another size, keeping every `stride`-th entry."""
    if not is_place(axis):
        return plain(size)
    step = step_of(axis)
    if step is None:
        return (Span(size, spread=extent(axis)),)
    return (Span(size, (step[0] * stride, step[1] * stride)),)


def regroup(axes: Sequence[Axis], sizes: Sequence[int]) -> tuple[Axis, ...] | None:
    """Follow a reshape to `sizes`; None where a span would have to be divided unevenly."""
    if tuple(prod(span.size for span in axis) for axis in axes) == tuple(sizes):
        return tuple(axes)
    left = _join([span for axis in axes for span in axis if span.size > 1])
    grouped = []
    for size in sizes:
        taken, wanted = [], size
        while wanted > 1:
            if not left:
                return None
            span = left.pop(0)
            if wanted % span.size == 0:
                taken.append(span)
                wanted //= span.size
            elif span.size % wanted == 0 and span.spread is None:
                inner = span.size // wanted
                step = (span.step[0] * inner, span.step[1] * inner)
                taken.append(Span(wanted, step))
                left.insert(0, Span(inner, span.step))
                wanted = 1
            else:
                return None
        grouped.append(tuple(taken) or plain(1))
    return tuple(grouped)


def _join(spans: Sequence[Span]) -> list[Span]:
    """Join neighbours that together are one even span."""
    joined: list[Span] = []
    for span in spans:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.spread is None
            and span.spread is None
            and last.step == (span.step[0] * span.size, span.step[1] * span.size)
        ):
            joined[-1] = replace(span, size=last.size * span.size)
        else:
            joined.append(span)
    return joined
