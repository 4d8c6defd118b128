"""Give units of images to train, val and test, so that every class gets its exact share of each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

Shares = tuple[float, float, float]
Counts = tuple[int, int, int]

TRAIN, VAL, TEST = range(3)
# A class of two images is better tested than validated.
_PRIORITY = (TRAIN, TEST, VAL)


@dataclass(frozen=True)
class Unit:
    """Rows that stay on one side: their positions in the table, and their labels counted."""

    rows: tuple[int, ...]
    labels: Mapping[str, int]
    key: int


def assign_units(units: Sequence[Unit], ratios: Shares) -> list[int]:
    """The side of every unit: each goes, in order, where its classes lack most.

    With units of one image this meets `exact_counts` for every class. Large units and units of
    several classes come as near as their size allows.
    """
    totals: Counter[str] = Counter()
    for unit in units:
        totals.update(unit.labels)
    targets = {label: exact_counts(total, ratios) for label, total in totals.items()}
    needs = {label: list(counts) for label, counts in targets.items()}
    parts = [part for part in _PRIORITY if ratios[part] > 0]
    sides = []
    for unit in units:
        side = min(parts, key=_misfit(unit, needs, targets))
        sides.append(side)
        for label, count in unit.labels.items():
            needs[label][side] -= count
    return _close_gaps(units, sides, parts)


def exact_counts(num_images: int, ratios: Shares) -> Counts:
    """Largest-remainder shares of `num_images`: they sum to it, each within 1 of its quota.

    Then no part with a share above 0 stays empty as long as there are images: train is served
    first, then test, then val, at the cost of the largest part.
    """
    # The decimal number that a person wrote, not the binary one next to it.
    written = [Fraction(str(ratio)) for ratio in ratios]
    quotas = [num_images * ratio / sum(written) for ratio in written]
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(_PRIORITY, key=lambda part: counts[part] - quotas[part])
    for part in by_remainder[: num_images - sum(counts)]:
        counts[part] += 1
    for part in [part for part in _PRIORITY if ratios[part] > 0][:num_images]:
        if counts[part] == 0:
            donor = max(reversed(_PRIORITY), key=lambda part: counts[part])
            counts[donor] -= 1
            counts[part] = 1
    return counts[TRAIN], counts[VAL], counts[TEST]


def _misfit(
    unit: Unit, needs: Mapping[str, Sequence[int]], targets: Mapping[str, Counts]
) -> Callable[[int], tuple[int, float]]:
    """By how much a side misses its counts more with the unit; among equals, the emptier side."""

    def cost(side: int) -> tuple[int, float]:
        excess = sum(
            abs(needs[label][side] - count) - abs(needs[label][side])
            for label, count in unit.labels.items()
        )
        lack = sum(needs[label][side] / max(targets[label][side], 1) for label in unit.labels)
        return excess, -lack

    return cost


def _close_gaps(units: Sequence[Unit], sides: Sequence[int], parts: Sequence[int]) -> list[int]:
    """Give every class a unit in train, and, where it has enough of them, in the other parts.

    Large units and units of several classes can leave such gaps. Each is closed by the smallest
    unit whose classes all keep another one on the side it leaves; for train, by any.
    """
    sides = list(sides)
    num_units: Counter[tuple[str, int]] = Counter()
    units_of: defaultdict[str, list[int]] = defaultdict(list)
    for index in sorted(range(len(units)), key=lambda i: (len(units[i].rows), units[i].key)):
        for label in units[index].labels:
            units_of[label].append(index)
            num_units[label, sides[index]] += 1

    def is_spare(index: int) -> bool:
        return all(num_units[label, sides[index]] > 1 for label in units[index].labels)

    # Train comes first in `parts`, so what closes the later gaps never empties it.
    for part in parts:
        for label in sorted(units_of):
            if num_units[label, part] > 0:
                continue
            last_resort = units_of[label][0] if part == TRAIN else None
            chosen = next(filter(is_spare, units_of[label]), last_resort)
            if chosen is not None:
                num_units.subtract((other, sides[chosen]) for other in units[chosen].labels)
                num_units.update((other, part) for other in units[chosen].labels)
                sides[chosen] = part
    return sides
