"""Do the probabilities mean what they say? Reliability, and a temperature that mends it.

Everything derives from the predictions store; `Spread` says how a temperature acts on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldmark.errors import DataError, FieldmarkError
from fieldmark.evaluation.conformal import labelled_rows, require_spread
from fieldmark.evaluation.spread import Spread

if TYPE_CHECKING:
    from fieldmark.evaluation.predictions import Predictions

NUM_BINS = 15
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ReliabilityBin:
    """Images whose first class has a probability above `low` and up to `high`.

    confidence: mean probability of the first class. accuracy: share in which it is a true one.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class TemperatureFit:
    """The temperature of least negative log-likelihood, and what it changes on these images.

    nll_before, nll_after: nats. ece_before, ece_after: expected calibration error over 15 bins.
    note: a sentence where no temperature could be found and 1 stays; else None.
    """

    temperature: float
    num_images: int
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    note: str | None = None


def compute_reliability(
    predictions: Predictions, *, num_bins: int = NUM_BINS, temperature: float = 1.0
) -> list[ReliabilityBin]:
    """The reliability diagram of the first class, over equal bins of its probability.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2. Bins without images are
    left out, so there are none where nothing is labelled. Multi-label: the first class is right
    where it is among the true ones. Raises `DataError` for a temperature other than 1 where the
    predictions have no `Spread`.
    """
    if num_bins < 1:
        raise FieldmarkError(f"num_bins: expected a number from 1, not {num_bins}")
    rows = np.flatnonzero(~np.isnan(predictions.loss))
    confidence = first_probability(predictions, temperature)[rows]
    hits = first_hits(predictions)[rows]
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    place = np.digitize(confidence, edges[1:-1], right=True)
    counts = np.bincount(place, minlength=num_bins)
    confidences = np.bincount(place, confidence, num_bins)
    right = np.bincount(place, hits, num_bins)
    return [
        ReliabilityBin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            count=int(counts[i]),
            confidence=float(confidences[i] / counts[i]),
            accuracy=float(right[i] / counts[i]),
        )
        for i in np.flatnonzero(counts)
    ]


def calibration_error(bins: list[ReliabilityBin]) -> float:
    """Expected calibration error: mean |accuracy - confidence| over images; NaN without any."""
    total = sum(b.count for b in bins)
    gap = sum(b.count * abs(b.accuracy - b.confidence) for b in bins)
    return float(gap / total) if total else float("nan")


def compute_nll(predictions: Predictions, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood in nats of the labelled images at a temperature."""
    rows = labelled_rows(predictions)
    spread = predictions.spread
    if temperature == 1.0 or spread is None:
        return float(predictions.loss[rows].mean())
    # As `_losses` for every image, and then the mean: all of it is linear but the 1/T.
    mean_sums = spread.log_sums[rows].mean(axis=0, dtype=np.float64)  # (G,)
    mean_behind = predictions.loss[rows].mean() - float(mean_sums @ spread.blend(1.0))
    mean_nll = mean_sums @ spread.blend(temperature) + max(0.0, mean_behind) / temperature
    return float(mean_nll)


def fit_temperature(predictions: Predictions) -> TemperatureFit:
    """Find the temperature T of least mean negative log-likelihood of softmax(z / T).

    Guo et al. 2017, section 4.2. The images must be ones that training did not see. Raises
    `DataError` where none is labelled, for a multi-label task, and without a `Spread`.
    """
    rows = labelled_rows(predictions)
    if len(rows) == 0:
        raise DataError("temperature: none of the images is labelled, so there is nothing to fit")
    assert predictions.spread is not None
    grid = np.array(predictions.spread.temperatures)
    # The loss has one minimum (it is convex in 1/T), which lies beside the best of the grid.
    losses = [compute_nll(predictions, temperature) for temperature in grid]
    best = int(np.argmin(losses))
    note = None
    temperature = 1.0
    if best in (0, len(grid) - 1):
        note = _explain_end(grid[best], predictions)
    else:
        from scipy.optimize import minimize_scalar  # training need not wait for it

        found = minimize_scalar(
            lambda log: compute_nll(predictions, float(np.exp(log))),
            bounds=(np.log(grid[best - 1]), np.log(grid[best + 1])),
            method="bounded",
            options={"xatol": 1e-6},
        )
        temperature = float(np.exp(found.x))
    return TemperatureFit(
        temperature=temperature,
        num_images=len(rows),
        nll_before=compute_nll(predictions),
        nll_after=compute_nll(predictions, temperature),
        ece_before=calibration_error(compute_reliability(predictions)),
        ece_after=calibration_error(compute_reliability(predictions, temperature=temperature)),
        note=note,
    )


def calibrate_predictions(predictions: Predictions, temperature: float) -> Predictions:
    """The same predictions at a temperature; what is decided stays, and so does `spread`."""
    require_spread(predictions)
    assert predictions.spread is not None
    log_sums = predictions.spread.log_sums_at(temperature)  # (N,)
    with np.errstate(divide="ignore"):  # a probability may be too small to be told from 0
        log_top = np.log(predictions.top_probability.astype(np.float64))  # (N, k)
    top = np.exp((log_top - log_top[:, :1]) / temperature - log_sums[:, None])
    losses = _losses(predictions, temperature)
    return replace(
        predictions,
        top_probability=top.astype(np.float32),
        true_probability=np.exp(-losses).astype(np.float32),
        loss=losses,
        squared_error=_squared_error(predictions.spread, temperature, log_sums, losses),
    )


def _squared_error(
    spread: Spread, temperature: float, log_sums: Floats, losses: Floats
) -> Floats | None:
    """Sum of p^2 - 2 p_true + 1, where the sum of squares is exp(R(T / 2) - 2 R(T)).

    None where half the temperature is below those that are kept.
    """
    if temperature / 2 < spread.temperatures[0]:
        return None
    squares = np.exp(spread.log_sums_at(temperature / 2) - 2 * log_sums)
    errors: Floats = squares - 2 * np.exp(-losses) + 1.0
    return errors


def first_probability(predictions: Predictions, temperature: float = 1.0) -> Floats:
    """Probability of the first class at a temperature, (N,); NaN where unreadable."""
    if temperature == 1.0:
        return predictions.top_probability[:, 0].astype(np.float64)
    require_spread(predictions)
    assert predictions.spread is not None
    return np.exp(-predictions.spread.log_sums_at(temperature))


def first_hits(predictions: Predictions) -> Floats:
    """1.0 where the first class is a true one, else 0.0, (N,)."""
    pairs = zip(predictions.top_index[:, 0].tolist(), predictions.targets, strict=True)
    return np.fromiter((first in true for first, true in pairs), dtype=np.float64)


def _losses(predictions: Predictions, temperature: float) -> Floats:
    spread = predictions.spread
    if temperature == 1.0 or spread is None:
        return predictions.loss
    # log p_1 - log p_true, with log p_1 = -R(1).
    behind = (predictions.loss - spread.log_sums_at(1.0)).clip(min=0.0)
    return spread.log_sums_at(temperature) + behind / temperature


def _explain_end(temperature: float, predictions: Predictions) -> str:
    hits = first_hits(predictions)[labelled_rows(predictions)]
    wrong = int(len(hits) - hits.sum())
    return (
        f"The likelihood is best at the end of what is tried ({temperature:g}), with {wrong} of "
        f"{len(hits)} validation images wrong: they do not decide a temperature, and 1 stays."
    )
