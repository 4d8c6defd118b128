"""`Spread`: what a predictions file keeps of all K classes in a few numbers per image.

With z the logits, p = softmax(z) and p_1 the largest probability, everything that a temperature T
does follows from R(T) = log sum_k (p_k / p_1)^(1/T): the first class has the probability
exp(-R(T)), class k exp((log p_k - log p_1) / T - R(T)), and the negative log-likelihood of an
image with true class t is R(T) + (log p_1 - log p_t) / T. R is kept on a grid of temperatures and
is smooth between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldmark.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

NUM_TEMPERATURES = 33
LOWEST, HIGHEST = 0.1, 10.0
# Evenly in log T, with 1 in the middle.
TEMPERATURES = tuple(
    float(round(10.0 ** (-1.0 + 2.0 * place / (NUM_TEMPERATURES - 1)), 12))
    for place in range(NUM_TEMPERATURES)
)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """How the probability of N images is spread over all K classes; NaN where unreadable.

    temperatures: (G,) rising. log_sums: (N, G) R(T) in nats. energy: (N,) log sum_k exp z_k, the
    negative free energy of Liu et al. 2020 ("Energy-based Out-of-distribution Detection", eq. 4),
    high for images like those learned from; NaN for a binary task, whose one logit has none.
    true_rank: (N,) place of the true class, 1 for the most probable, 0 where there is none.
    mass_above: (N,) probability of all classes before the true one; NaN where there is none.
    """

    temperatures: tuple[float, ...]
    log_sums: NDArray[np.float32]
    energy: NDArray[np.float32]
    true_rank: NDArray[np.int32]
    mass_above: Floats

    @classmethod
    def empty(cls, num_images: int) -> Spread:
        """Room for so many images."""
        return cls(
            TEMPERATURES,
            np.full((num_images, NUM_TEMPERATURES), np.nan, dtype=np.float32),
            np.full(num_images, np.nan, dtype=np.float32),
            np.zeros(num_images, dtype=np.int32),
            np.full(num_images, np.nan, dtype=np.float64),
        )

    def add(
        self,
        rows: NDArray[np.int64],
        logits: Tensor,
        ranked: Tensor,
        classes: Tensor,
        targets: Tensor,
    ) -> None:
        """Take the images at `rows` (B,).

        logits: (B, outputs). ranked, classes: (B, K) log-probabilities, largest first, and their
        class indices. targets: (B,) true class index, -1 where there is none.
        """
        self.log_sums[rows] = measure_log_sums(ranked).numpy()
        if logits.shape[1] > 1:
            self.energy[rows] = logits.logsumexp(dim=1).numpy()
        is_true = classes == targets[:, None]  # (B, K)
        has_true = is_true.any(dim=1).numpy()
        rank = is_true.byte().argmax(dim=1, keepdim=True)  # (B, 1)
        mass = ranked.double().exp().cumsum(dim=1).roll(1, dims=1)  # (B, K), of those before
        mass[:, 0] = 0.0
        self.true_rank[rows] = np.where(has_true, rank[:, 0].numpy() + 1, 0)
        self.mass_above[rows] = np.where(has_true, mass.gather(1, rank)[:, 0].numpy(), np.nan)

    def log_sums_at(self, temperature: float) -> Floats:
        """R(T) (N,) at any temperature of the grid's range: a cubic spline in log T.

        Raises `DataError` for a temperature outside of it.
        """
        found: Floats = self.log_sums.astype(np.float64) @ self.blend(temperature)
        return found.clip(min=0.0)

    def blend(self, temperature: float) -> Floats:
        """(G,) what R at each temperature of the grid counts for R(T); a spline is linear in it."""
        grid = np.array(self.temperatures)
        if not grid[0] <= temperature <= grid[-1]:
            raise DataError(
                f"temperature: expected a number from {grid[0]:g} to {grid[-1]:g}, "
                f"not {temperature:g}"
            )
        from scipy.interpolate import CubicSpline  # training need not wait for it

        blended: Floats = CubicSpline(np.log(grid), np.eye(len(grid)))(np.log(temperature))
        return blended


def measure_log_sums(log_probability: Tensor) -> Tensor:
    """R(T) on `TEMPERATURES`: (B, K) log-probabilities -> (B, G)."""
    import torch  # an exported file predicts without it

    below = log_probability - log_probability.amax(dim=1, keepdim=True)  # (B, K), at most 0
    # One temperature at a time: (B, K, G) would not fit for many classes.
    return torch.stack([(below / t).logsumexp(dim=1) for t in TEMPERATURES], dim=1)
