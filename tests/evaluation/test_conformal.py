from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn.base import BaseEstimator, ClassifierMixin

from fieldmark.errors import DataError, FieldmarkError
from fieldmark.evaluation.conformal import (
    SET_METHODS,
    SetRule,
    check_sets,
    coverage_range,
    fit_set_rules,
    parse_set_method,
    quantile_place,
)


@pytest.fixture(scope="module")
def mapie():
    """The oracle; a development dependency."""
    return pytest.importorskip("mapie.classification", reason="mapie is not installed")


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose features are its probabilities, for the oracle."""

    def __init__(self, num_classes: int = 2) -> None:
        self.num_classes = num_classes

    def fit(self, x: np.ndarray, y: np.ndarray) -> Given:
        self.classes_ = np.arange(self.num_classes)
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return x

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)


def draw(num_images: int, num_classes: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    logits = 1.5 * torch.randn(
        num_images, num_classes, generator=torch.Generator().manual_seed(seed)
    )
    return logits, logits.double().softmax(dim=1).numpy()


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_lac_sets_are_those_of_mapie(invent, mapie, coverage) -> None:
    logits, p = draw(300, 6, seed=1)
    val = invent(300, 6, logits=logits)
    targets = np.array([t[0] for t in val.targets])
    oracle = mapie.SplitConformalClassifier(
        Given(6).fit(p, targets), confidence_level=coverage, conformity_score="lac", prefit=True
    )
    oracle.conformalize(p, targets)
    new_logits, new_p = draw(200, 6, seed=2)
    _, expected = oracle.predict_set(new_p)
    rule = fit_set_rules(val, coverage)["lac"]
    found = invent(200, 6, logits=new_logits, sets=rule).label_sets
    for row in range(200):
        theirs = set(np.flatnonzero(expected[row, :, 0])) or {int(new_p[row].argmax())}
        assert set(found[row]) == theirs


def test_adaptive_scores_are_those_of_mapie_but_for_their_random_draw(invent, mapie) -> None:
    logits, p = draw(250, 8, seed=3)
    val = invent(250, 8, logits=logits)
    targets = np.array([t[0] for t in val.targets])
    oracle = mapie.SplitConformalClassifier(
        Given(8).fit(p, targets), confidence_level=0.9, conformity_score="aps", prefit=True
    )
    oracle.conformalize(p, targets)
    theirs = np.asarray(oracle._mapie_classifier.conformity_scores_).ravel()
    own = _true_scores(val, "aps")
    # Theirs takes a random share of the true class's probability as well, ours none.
    drawn = (theirs - own) / np.exp(-val.loss)
    assert -1e-5 < drawn.min() < 0.05 and 0.95 < drawn.max() < 1 + 1e-5


@pytest.mark.parametrize("method", SET_METHODS)
def test_the_threshold_is_the_conformal_quantile_of_the_scores(invent, method) -> None:
    val = invent(250)
    place = int(np.ceil(251 * 0.9))
    expected = np.sort(_true_scores(val, method))[place - 1]
    assert fit_set_rules(val, 0.9)[method].threshold == pytest.approx(expected, abs=1e-6)


NUM_VAL, NUM_TEST, NUM_ROUNDS = 99, 200, 60


@pytest.fixture(scope="module")
def rounds(invent) -> dict[str, np.ndarray]:
    """Scores of the true classes in many rounds, (rounds, val and test images), by method."""
    drawn = [
        invent(NUM_VAL + NUM_TEST, seed=100 + i, overconfidence=1.8) for i in range(NUM_ROUNDS)
    ]
    return {method: np.stack([_true_scores(d, method) for d in drawn]) for method in SET_METHODS}


@pytest.mark.parametrize("method", SET_METHODS)
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_coverage_on_images_of_the_same_kind_is_within_the_theory(rounds, method, coverage) -> None:
    """Over many calibrations: at least the coverage, and at most 1 / (n + 1) more."""
    place = quantile_place(NUM_VAL, coverage)
    val, new = rounds[method][:, :NUM_VAL], rounds[method][:, NUM_VAL:]
    thresholds = np.sort(val, axis=1)[:, place - 1 : place]
    held = (new <= thresholds).mean()
    expected = place / (NUM_VAL + 1)
    assert coverage - 1e-9 <= expected <= coverage + 1 / (NUM_VAL + 1)
    # Each round's coverage has the variance of its Beta and of its test; four standard errors.
    variance = expected * (1 - expected) * (1 / (NUM_VAL + 2) + 1 / NUM_TEST)
    assert abs(held - expected) < 4 * np.sqrt(variance / NUM_ROUNDS)


def _true_scores(predictions, method: str) -> np.ndarray:
    rule = SetRule(method, 1.0)
    tops = predictions.top_probability.astype(np.float64)  # all ten classes
    return np.array(
        [
            rule.score(tops[i : i + 1])[0, rank - 1]
            for i, rank in enumerate(predictions.spread.true_rank)
        ]
    )


@pytest.mark.parametrize("method", SET_METHODS)
def test_fitted_rules_cover_new_images(invent, method) -> None:
    rules = fit_set_rules(invent(2000, seed=5, overconfidence=2.0), 0.9)
    new = invent(4000, seed=6, overconfidence=2.0)
    check = check_sets(new, rules[method])
    low, high = coverage_range(2000, 0.9, level=0.9999)
    slack = binom.ppf([0.0001, 0.9999], 4000, 0.9) / 4000 - 0.9
    assert low + slack[0] <= check.coverage <= high + slack[1]
    assert check.is_exact and 1.0 <= check.mean_size <= 10.0


@pytest.mark.parametrize("method", SET_METHODS)
def test_stored_predictions_and_chosen_sets_agree(invent, method) -> None:
    rule = fit_set_rules(invent(500, 15, seed=1), 0.9)[method]
    new = invent(300, 15, seed=2, sets=rule)
    check = check_sets(new, rule)
    held = np.mean([t[0] in chosen for t, chosen in zip(new.targets, new.label_sets, strict=True)])
    assert check.coverage == pytest.approx(held, abs=1e-12)
    size = np.mean([len(chosen) for chosen in new.label_sets])
    assert check.mean_size == pytest.approx(size) if check.is_exact else check.mean_size <= size
    for chosen, top in zip(new.label_sets, new.top_index.tolist(), strict=True):
        assert len(chosen) >= 1 and list(chosen[:10]) == top[: len(chosen)]


def test_raps_makes_large_sets_smaller() -> None:
    flat = np.full((1, 100), 0.01)
    assert SetRule("aps", 0.8901).choose(flat)[0] == 90
    assert SetRule("raps", 0.8901).choose(flat)[0] < 50


@pytest.mark.parametrize(("coverage", "needed"), [(0.9, 9), (0.95, 19), (0.99, 99)])
def test_too_few_images_for_a_coverage_are_told(invent, coverage, needed) -> None:
    fit_set_rules(invent(needed), coverage)
    with pytest.raises(DataError, match=f"needs at least {needed} labelled validation images"):
        fit_set_rules(invent(needed - 1), coverage)


def test_wrong_arguments_are_told(invent) -> None:
    with pytest.raises(FieldmarkError, match=r"above 0 and below 1, not 1.5"):
        fit_set_rules(invent(5), 1.5)
    with pytest.raises(FieldmarkError, match=r"lac, aps, raps. Did you mean 'raps'"):
        parse_set_method("rap")
    with pytest.raises(DataError, match="multi-label"):
        fit_set_rules(invent(50, task="multilabel"), 0.9)


def test_the_range_of_coverage_narrows_with_images() -> None:
    narrow, wide = coverage_range(1000, 0.9), coverage_range(50, 0.9)
    assert wide[0] < narrow[0] < 0.9 < narrow[1] < wide[1]
    assert narrow == pytest.approx((0.885, 0.915), abs=0.003)
