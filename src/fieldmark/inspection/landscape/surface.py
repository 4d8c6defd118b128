"""The loss over a plane through the weights: `compute_surface`.

Every point of the grid is computed by the network. The cost is points x images, and most of it
can be saved: how the loss of some images differs from that of the others changes slowly over the
plane. So all points see the first `few` images, a lattice of every fifth point (and the centre,
and points drawn at random as a check) sees the rest too, and between those the ratio of both
losses is interpolated. The random points say how far off that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline
from torch import nn

from fieldmark.inspection.landscape.directions import Plane
from fieldmark.inspection.landscape.losses import Sample, mean_loss
from fieldmark.inspection.landscape.points import PointStore
from fieldmark.inspection.landscape.weights import MovedCopy
from fieldmark.seeds import derive_seed

Grid = NDArray[np.float64]
Cell = tuple[int, int]
Count = Callable[[int, int], None]
LATTICE = 5
NUM_CHECKS = 32
BATCH_SIZE = 64
TINY = 1e-12


@dataclass(frozen=True)
class Interpolation:
    """How the grid was completed, and how far off that is.

    few: images that every point saw. num_full: points that saw all images. mean_error,
    max_error: of the loss at `num_checks` random points, relative to what all images gave there.
    """

    few: int
    num_full: int
    num_checks: int
    mean_error: float
    max_error: float


@dataclass(frozen=True)
class Surface:
    """Losses (A, A) at steps (A,) along the first direction (columns) and the second (rows).

    The middle one is the network as it is. num_images: of the sample. interpolation: None where
    every point saw every image. exact_centre: the loss at the centre in float32.
    """

    steps: Grid
    losses: Grid
    num_images: int
    exact_centre: float
    precision: str
    interpolation: Interpolation | None

    @property
    def centre(self) -> float:
        """The loss at the weights, in the numbers that the grid was computed in."""
        middle = len(self.steps) // 2
        return float(self.losses[middle, middle])


def compute_surface(
    network: nn.Module,
    sample: Sample,
    plane: Plane,
    *,
    points: int = 51,
    distance: float = 1.0,
    few: int | None = 40,
    precision: torch.dtype | None = None,
    store: PointStore | None = None,
    count: Count = lambda _done, _total: None,
) -> Surface:
    """Compute the loss at `points` x `points` weights, up to `distance` along both directions.

    `points` is odd, so that the middle is the network itself, bit for bit. few: images that all
    points see (None: all see all). precision: bfloat16 where the processor multiplies it, else
    float32. `store` keeps what was computed, so a run that was cut off goes on. `count` is told
    image passes done and in all. The network is not written to. Raises `ValueError` for an even
    number of points.
    """
    if points % 2 == 0 or points < 3:
        raise ValueError(
            f"points: expected an odd number from 3, so that one is the centre, not {points}"
        )
    dtype = precision or fastest_precision(sample.inputs[0].device)
    work = _Work.plan(points, len(sample), few, seed=0)
    stored = store or PointStore.in_memory()
    found = stored.load(2 * points * points).reshape(2, points, points)
    moved = MovedCopy(network, plane.names, dtype)
    steps = distance * (np.arange(points) - points // 2) / (points // 2)
    parts = [part.to(dtype) for part in (sample.first(work.few), sample.rest(work.few))]
    done, total = 0, sum(len(parts[part]) for part, _ in work.tasks())
    for part, (row, column) in work.tasks():
        if np.isnan(found[part, row, column]):
            values = moved.centre.clone()
            if (row, column) != work.centre:
                values.add_(plane.first.to(values.device), alpha=float(steps[column]))
                values.add_(plane.second.to(values.device), alpha=float(steps[row]))
            network_there = moved.put(values)
            found[part, row, column] = mean_loss(
                network_there, parts[part], batch_size=BATCH_SIZE, precision=dtype
            )
            stored.save(found.ravel())
        done += len(parts[part])
        count(done, total)
    stored.save(found.ravel(), now=True)
    losses, interpolation = work.complete(found, len(sample))
    exact = MovedCopy(network, plane.names)
    return Surface(
        steps=steps,
        losses=losses,
        num_images=len(sample),
        exact_centre=mean_loss(exact.network, sample, batch_size=BATCH_SIZE),
        precision=str(dtype).removeprefix("torch."),
        interpolation=interpolation,
    )


def fastest_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where it is computed faster than float32."""
    has_it = (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        if device.type == "cpu"
        else device.type == "cuda"
    )
    return torch.bfloat16 if has_it else torch.float32


@dataclass(frozen=True)
class _Work:
    """Which cells see the first `few` images (part 0: all), and which the rest (part 1)."""

    points: int
    few: int
    lattice: tuple[int, ...]
    checks: frozenset[Cell]

    @classmethod
    def plan(cls, points: int, num_images: int, few: int | None, *, seed: int) -> _Work:
        # A lattice needs four lines in each direction for a cubic spline.
        if few is None or few >= num_images or points < 4 * LATTICE:
            return cls(points, num_images, (), frozenset())
        middle = points // 2
        start = middle % LATTICE
        lattice = tuple(dict.fromkeys((0, *range(start, points, LATTICE), points - 1)))
        generator = np.random.default_rng(derive_seed(seed, "checks"))
        cells = generator.choice(points * points, size=4 * NUM_CHECKS, replace=False)
        checks = [divmod(int(cell), points) for cell in cells]
        apart = [(r, c) for r, c in checks if r not in lattice or c not in lattice]
        return cls(points, few, lattice, frozenset(apart[:NUM_CHECKS]))

    @property
    def centre(self) -> Cell:
        return self.points // 2, self.points // 2

    def tasks(self) -> Iterator[tuple[int, Cell]]:
        """Parts and cells, what gives a whole picture first."""
        full = [(r, c) for r in self.lattice for c in self.lattice]
        first = dict.fromkeys((self.centre, *full, *sorted(self.checks)))
        every = [(r, c) for r in range(self.points) for c in range(self.points)]
        for cell in dict.fromkeys((*first, *every)):
            yield 0, cell
            if cell in first and self.lattice:
                yield 1, cell

    def complete(self, found: Grid, num_images: int) -> tuple[Grid, Interpolation | None]:
        """The losses of all images at all points."""
        if not self.lattice:
            return found[0].copy(), None
        ratio = np.log((found[1] + TINY) / (found[0] + TINY))
        lines = np.array(self.lattice)
        spline = RectBivariateSpline(lines, lines, ratio[np.ix_(lines, lines)], kx=3, ky=3)
        everywhere = np.arange(self.points)
        rest = (found[0] + TINY) * np.exp(spline(everywhere, everywhere)) - TINY
        share = self.few / num_images
        guessed = share * found[0] + (1 - share) * rest
        known = ~np.isnan(found[1])
        exact = share * found[0] + (1 - share) * np.where(known, found[1], rest)
        rows, columns = np.array(sorted(self.checks)).T
        wrong = np.abs(guessed - exact)[rows, columns] / (exact[rows, columns] + TINY)
        return exact, Interpolation(
            few=self.few,
            num_full=int(known.sum()),
            num_checks=len(rows),
            mean_error=float(wrong.mean()),
            max_error=float(wrong.max()),
        )
