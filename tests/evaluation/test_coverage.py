"""Whether 95% means 95%: synthetic runs whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fieldmark.evaluation.comparison.differences import find_difference
from fieldmark.evaluation.comparison.pairing import SharedImages
from fieldmark.evaluation.intervals import bound_metric, resample, score_outcomes
from fieldmark.evaluation.outcomes import Floats, Ints, Outcomes
from fieldmark.evaluation.resampling import build_units

NUM_RUNS = 2000
CHECKED = ("accuracy", "balanced_accuracy", "macro_f1", "kappa", "sum", "nll", "brier")
BALANCED = np.repeat(np.arange(6), 50)  # 300 images, as in "84.3% against 82.9%"
LONG_TAIL = np.repeat(np.arange(8), (90, 60, 40, 30, 20, 12, 8, 6))


def draw_logits(true: Ints, skill: float, generator: np.random.Generator) -> Floats:
    logits = generator.normal(size=(len(true), int(true.max()) + 1)) * 1.3
    logits[np.arange(len(true)), true] += skill + 0.15 * (true % 3)
    return logits


def judge_logits(true: Ints, logits: Floats) -> Outcomes:
    """Outcomes of a model that said these logits."""
    probability = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    rows = np.arange(len(true))
    own = probability[rows, true]
    predicted = probability.argmax(axis=1)
    hits = (predicted == true).astype(np.float64)
    return Outcomes(
        num_classes=probability.shape[1],
        multilabel=False,
        rows=rows,
        hits=hits,
        in_top5=((probability > own[:, None]).sum(axis=1) < 5).astype(np.float64),
        top1_hits=hits,
        confidence=probability.max(axis=1),
        loss=-np.log(own),
        squared_error=np.square(probability).sum(axis=1) - 2 * own + 1,
        scores=None,
        true_row=rows,
        true_class=true,
        predicted_row=rows,
        predicted_class=predicted,
        match=hits,
        strata=true,
    )


def intervals_of(outcomes: Outcomes, seed: int) -> dict[str, tuple[float, float]]:
    """As `compute_intervals`, with fewer resamples: the scatter alone is needed."""
    units = build_units(outcomes.strata)
    values = score_outcomes(outcomes)
    samples = resample(outcomes, units, num_resamples=150, seed=seed)
    return {
        name: bound_metric(
            name,
            outcomes,
            values[name],
            deviation=float(samples[name].std(ddof=1)),
            freedom=units.freedom,
        )
        for name in CHECKED
    }


@pytest.mark.parametrize("true", [BALANCED, LONG_TAIL], ids=["balanced", "long tail"])
def test_intervals_cover_the_truth_in_93_to_97_percent_of_runs(true: Ints) -> None:
    generator = np.random.default_rng(5)
    many = np.tile(true, 700)
    truth = score_outcomes(judge_logits(many, draw_logits(many, 2.6, generator)))
    covered = dict.fromkeys(CHECKED, 0)
    for run in range(NUM_RUNS):
        outcomes = judge_logits(true, draw_logits(true, 2.6, generator))
        for name, (low, high) in intervals_of(outcomes, seed=run).items():
            covered[name] += low <= truth[name] <= high
    shares = {name: count / NUM_RUNS for name, count in covered.items()}
    assert all(0.93 <= share <= 0.97 for share in shares.values()), shares


@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_equal_models_are_called_different_in_no_more_than_5_percent(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two models of one skill, alike on some images and not on others."""
    for name, count in (("NUM_RESAMPLES", 50), ("NUM_PERMUTATIONS", 199)):
        monkeypatch.setattr(f"fieldmark.evaluation.comparison.paired.{name}", count)
    different, excluded = compare_equal_models(metric, draw_logits)
    # One-sided: 2,000 runs of a true 5% give up to 5.8% in 19 of 20 cases.
    assert different / NUM_RUNS <= 0.05
    assert excluded / NUM_RUNS <= 0.058


def compare_equal_models(
    metric: str, draw: Callable[[Ints, float, np.random.Generator], Floats]
) -> tuple[int, int]:
    """How often the test, and the interval, tell two equal models apart."""
    generator = np.random.default_rng(11)
    units = build_units(BALANCED)
    different = excluded = 0
    for _ in range(NUM_RUNS):
        shared = draw(BALANCED, 2.6, generator)
        first, second = (
            judge_logits(BALANCED, shared + 0.7 * generator.normal(size=shared.shape))
            for _ in range(2)
        )
        found = find_difference(SharedImages((first,), (second,), units, False), metric)
        different += found.p_value < 0.05
        excluded += not found.interval[0] <= 0 <= found.interval[1]
    return different, excluded


def test_all_right_is_no_certainty() -> None:
    true = np.repeat(np.arange(4), 10)
    logits = np.zeros((40, 4))
    logits[np.arange(40), true] = 9.0
    intervals = intervals_of(judge_logits(true, logits), seed=0)
    for name in ("accuracy", "macro_f1", "balanced_accuracy"):
        low, high = intervals[name]
        assert 0.88 < low < 0.95 and high == 1.0, name
