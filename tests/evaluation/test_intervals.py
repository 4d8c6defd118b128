from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fieldmark.evaluation.intervals import resample, score_interval
from fieldmark.evaluation.outcomes import Outcomes
from fieldmark.evaluation.resampling import build_units, draw_weights
from fieldmark.evaluation.totals import build_summands, score_totals


def random_outcomes(count: int = 60, num_classes: int = 4, seed: int = 0) -> Outcomes:
    generator = np.random.default_rng(seed)
    true = np.sort(generator.integers(0, num_classes, count))
    guess = np.where(generator.random(count) < 0.7, true, generator.integers(0, num_classes, count))
    hits = (true == guess).astype(float)
    rows = np.arange(count)
    return Outcomes(
        num_classes=num_classes,
        multilabel=False,
        rows=rows,
        hits=hits,
        in_top5=np.ones(count),
        top1_hits=hits,
        confidence=generator.uniform(0.3, 1, count),
        loss=generator.exponential(size=count),
        squared_error=generator.uniform(0, 2, count),
        scores=None,
        true_row=rows,
        true_class=true,
        predicted_row=rows,
        predicted_class=guess,
        match=hits,
        strata=true,
    )


def test_resamples_are_those_of_drawing_image_by_image() -> None:
    """Against the definition: n - 1 of each class with replacement, each n / (n - 1) times."""
    outcomes = random_outcomes()
    fast = resample(outcomes, build_units(outcomes.strata), num_resamples=3000, seed=1)
    generator = np.random.default_rng(2)
    summands = build_summands(outcomes)
    weights = np.zeros((3000, len(outcomes)))
    for row in weights:
        for index in range(outcomes.num_classes):
            own = np.flatnonzero(outcomes.strata == index)
            drawn = generator.choice(own, len(own) - 1)
            np.add.at(row, drawn, len(own) / (len(own) - 1))
    plain = score_totals(summands, summands.total(weights))
    for name in plain:
        # Macro-F1 and the like are of few values, which the test takes for ties: it is cautious.
        assert stats.ks_2samp(fast[name], plain[name]).pvalue > 0.001, name


def test_scatter_is_that_of_independent_images() -> None:
    """Accuracy's deviation is that of a stratified sample, with n - 1 in each class."""
    outcomes = random_outcomes(count=40)
    found = resample(outcomes, build_units(outcomes.strata), num_resamples=20_000, seed=0)
    variance = 0.0
    for index in range(outcomes.num_classes):
        hits = outcomes.hits[outcomes.strata == index]
        variance += len(hits) * hits.var(ddof=1) / len(outcomes) ** 2
    assert found["accuracy"].std() == pytest.approx(np.sqrt(variance), rel=0.03)


def test_two_images_of_a_class_still_scatter() -> None:
    units = build_units(np.repeat(np.arange(5), 2))
    (weights,) = draw_weights(units, 500, seed=0)
    assert set(np.unique(weights)) == {0.0, 2.0}
    assert np.allclose(weights.sum(axis=1), 10)


def test_classes_with_one_image_are_drawn_from_together() -> None:
    units = build_units(np.array([0, 0, 0, 1, 2, 3]))
    (weights,) = draw_weights(units, 500, seed=0)
    assert np.allclose(weights.sum(axis=1), 6)
    single = units.of_image[3:]
    assert weights[:, single].std() > 0
    lone = build_units(np.array([0, 0, 0, 1]))
    (weights,) = draw_weights(lone, 500, seed=0)
    assert weights[:, lone.of_image[3]].std() > 0, "it is drawn with the smallest other class"


def test_images_of_a_group_count_together() -> None:
    groups = ["plant", "", "plant", "", "tree", "tree"]
    units = build_units(np.zeros(6, np.int64), groups)
    assert units.of_image[0] == units.of_image[2] and units.of_image[4] == units.of_image[5]
    assert len(units.size) == 4


def test_groups_widen_the_interval_where_their_images_agree() -> None:
    outcomes = random_outcomes(count=200, num_classes=2)
    by_hit = np.lexsort((outcomes.hits, outcomes.strata))
    names = np.empty(200, object)
    for place, image in enumerate(by_hit):
        names[image] = f"g{place // 5}"
    alone, together = (
        resample(outcomes, build_units(outcomes.strata, g), num_resamples=1000, seed=0)["accuracy"]
        for g in (None, list(names))
    )
    assert together.std() > 1.5 * alone.std()


def test_interval_of_a_plain_share_is_wilsons() -> None:
    share, count = 0.9, 50
    low, high = score_interval(share, np.sqrt(share * (1 - share) / count), (0, 1), 1.959964, 1)
    expected = stats.binomtest(45, 50).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_chunks_do_not_change_what_is_drawn_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    units = build_units(np.repeat(np.arange(3), 10))
    (whole,) = draw_weights(units, 100, seed=3)
    monkeypatch.setattr("fieldmark.evaluation.resampling.CHUNK_NUMBERS", 300)
    parts = list(draw_weights(units, 100, seed=3))
    assert [len(part) for part in parts] == [10] * 10
    assert sum(part.sum() for part in parts) == pytest.approx(whole.sum())
