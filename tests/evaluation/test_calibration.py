from __future__ import annotations

import numpy as np
import pytest

from fieldmark.errors import DataError, FieldmarkError
from fieldmark.evaluation.calibration import (
    calibration_error,
    compute_nll,
    compute_reliability,
    fit_temperature,
)
from fieldmark.evaluation.metrics import compute_metrics


@pytest.mark.parametrize("overconfidence", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_what_the_network_says_too_much(invent, overconfidence) -> None:
    fit = fit_temperature(invent(6000, overconfidence=overconfidence))
    assert fit.temperature == pytest.approx(overconfidence, rel=0.05)
    assert fit.nll_after <= fit.nll_before + 1e-9
    assert fit.note is None and fit.num_images == 6000
    if overconfidence != 1.0:
        assert fit.ece_after < 0.02 < fit.ece_before


def test_no_other_temperature_has_a_lower_likelihood_loss(invent) -> None:
    predictions = invent(800, overconfidence=1.7)
    fit = fit_temperature(predictions)
    tried = [compute_nll(predictions, t) for t in np.geomspace(0.11, 9.9, 200)]
    assert fit.nll_after <= min(tried) + 1e-7


def test_a_temperature_of_new_images_helps_other_new_images(invent) -> None:
    fit = fit_temperature(invent(1500, seed=1, overconfidence=2.0))
    other = invent(1500, seed=2, overconfidence=2.0)
    before = calibration_error(compute_reliability(other))
    after = calibration_error(compute_reliability(other, temperature=fit.temperature))
    assert after < before / 3


def test_binary_runs_have_a_temperature_too(invent) -> None:
    predictions = invent(4000, 2, task="binary", overconfidence=2.0, sharpness=2.0)
    assert fit_temperature(predictions).temperature == pytest.approx(2.0, rel=0.1)


def test_images_that_are_all_right_decide_no_temperature(invent) -> None:
    sure = invent(20, 4, sharpness=60.0)
    fit = fit_temperature(sure)
    assert fit.temperature == 1.0 and fit.nll_after == fit.nll_before
    assert "0 of 20 validation images wrong" in fit.note


def test_reliability_bins_hold_every_image_and_give_the_calibration_error(invent) -> None:
    predictions = invent(3000, overconfidence=1.6)
    bins = compute_reliability(predictions)
    assert sum(b.count for b in bins) == 3000
    for b in bins:
        assert b.low < b.confidence <= b.high + 1e-6 and 0.0 <= b.accuracy <= 1.0
    assert calibration_error(bins) == pytest.approx(compute_metrics(predictions)["ece"], abs=1e-12)
    assert [b.high - b.low for b in compute_reliability(predictions, num_bins=4)] == pytest.approx(
        [0.25] * len(compute_reliability(predictions, num_bins=4))
    )


def test_nothing_labelled_gives_no_bins_and_no_temperature(invent) -> None:
    predictions = invent(5)
    predictions.loss[:] = np.nan
    assert compute_reliability(predictions) == []
    with pytest.raises(DataError, match="none of the images is labelled"):
        fit_temperature(predictions)


def test_multilabel_has_reliability_but_no_temperature(invent) -> None:
    predictions = invent(50, task="multilabel")
    assert compute_reliability(predictions)
    with pytest.raises(DataError, match="multi-label run has a probability for each class"):
        fit_temperature(predictions)


def test_wrong_arguments_are_told(invent) -> None:
    with pytest.raises(FieldmarkError, match="num_bins: expected a number from 1, not 0"):
        compute_reliability(invent(5), num_bins=0)
    with pytest.raises(DataError, match=r"expected a number from 0.1 to 10, not 30"):
        compute_reliability(invent(5), temperature=30.0)
