"""What a comparison says: a row for each recipe, and a pair for each two that were compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Test = Literal[
    "McNemar exact",
    "permutation",
    "t over seeds and images",
    "t over seeds, paired",
    "t over seeds",
]


@dataclass(frozen=True)
class ComparedRow:
    """A recipe: one run, or several that differ in nothing but their seed.

    runs: the run folders, in seed order. metrics: the mean over the seeds. spread: the standard
        deviation between seeds (n - 1 below); None for a single seed. intervals: of 95%: for one
        seed over the images that a test set could have had, for several over the seeds as well,
        as far as there are enough of them. A cost that no run recorded is None.
    """

    name: str
    runs: tuple[str, ...]
    num_seeds: int
    metrics: Mapping[str, float]
    spread: Mapping[str, float] | None
    intervals: Mapping[str, tuple[float, float]]
    parameters: int | None
    seconds: float | None
    images_per_second: float | None
    peak_memory_mb: float | None


@dataclass(frozen=True)
class ComparedPair:
    """Row `a` held against row `b`; `b` is the baseline where one is given.

    difference: value of a - value of b, with its 95% interval.
    relative_change: difference / |value of b|; None where that is 0.
    p_adjusted: after Holm over all pairs of the comparison (Holm 1979).
    verdict: `better`, `worse`, or a sentence that begins with `cannot be told apart`; always
        about a, and decided at p_adjusted < 0.05.
    images_needed: images at which a difference of this size would be told with a chance of
        80%; None where the verdict is clear, where there is no difference, or where it takes
        more seeds and not images.
    """

    a: str
    b: str
    metric: str
    difference: float
    interval: tuple[float, float]
    relative_change: float | None
    p_value: float
    p_adjusted: float
    test: Test
    verdict: str
    images_needed: int | None


@dataclass(frozen=True)
class Comparison:
    """Rows best first by `metric`, pairs in the order of the rows.

    num_images: images of `split` that every row was scored on; where seeds have splits of their
    own, the mean number of a run. notes: sentences for people.
    """

    metric: str
    split: str
    num_images: int
    rows: tuple[ComparedRow, ...]
    pairs: tuple[ComparedPair, ...]
    notes: tuple[str, ...] = ()
