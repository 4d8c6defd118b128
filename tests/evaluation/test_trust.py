from __future__ import annotations

import json

import pytest

from fieldmark.errors import DataError
from fieldmark.evaluation.change import measure_change
from fieldmark.evaluation.parts import divide_classes, score_parts
from fieldmark.evaluation.trust import Calibration, check_calibration, fit_calibration


def test_a_calibration_comes_back_from_json_as_it_was(invent) -> None:
    calibration = fit_calibration(invent(300, overconfidence=2.0), selected={"epoch": 3})
    back = Calibration.from_json(json.loads(json.dumps(calibration.to_json(), allow_nan=False)))
    assert back == calibration


def test_what_was_fitted_holds_on_other_images(invent) -> None:
    calibration = fit_calibration(invent(3000, seed=1, overconfidence=2.0), coverage=0.8, keep=0.7)
    check = check_calibration(calibration, invent(3000, seed=2, overconfidence=2.0))
    assert check.num_images == 3000
    assert check.nll_after < check.nll_before and check.ece_after < check.ece_before
    for method, found in check.sets.items():
        assert found.coverage > 0.77
        if method != "lac":  # which has empty sets, that the first class fills
            assert found.coverage == pytest.approx(0.8, abs=0.03)
    for done in check.rejection.values():
        assert done.coverage == pytest.approx(0.7, abs=0.04)
    assert check.rejection["probability"].risk < check.risk


def test_binary_runs_have_all_but_the_energy(invent) -> None:
    val = invent(200, 2, task="binary")
    assert set(fit_calibration(val).rejection) == {"probability", "calibrated_probability"}


def test_multilabel_is_refused(invent) -> None:
    with pytest.raises(DataError, match="multi-label"):
        fit_calibration(invent(200, task="multilabel"))


def test_a_change_counts_images_won_and_lost(invent) -> None:
    first, second = invent(200, seed=3), invent(200, seed=3, overconfidence=1.5)
    assert measure_change(first, first).p_value == 1.0
    change = measure_change(first, second)
    assert (change.num_won, change.num_lost) == (0, 0)
    assert change.metrics["nll"] > 0 == change.metrics["accuracy"]
    assert measure_change(first, invent(199, seed=3)) is None


def test_classes_are_divided_into_thirds_by_training_images() -> None:
    assert divide_classes([5, 90, 40, 7, 60, 30]) == [
        "tail",
        "head",
        "middle",
        "tail",
        "head",
        "middle",
    ]
    assert divide_classes([9, 9, 9, 9]) == ["head"] * 4


def test_the_score_of_a_part_is_the_mean_recall_of_its_classes(invent) -> None:
    predictions = invent(600, 3)
    found = score_parts(predictions, [30, 20, 10])
    for part, index in zip(("head", "middle", "tail"), range(3), strict=True):
        own = [
            p == t
            for p, t in zip(predictions.predicted, predictions.targets, strict=True)
            if t == (index,)
        ]
        assert found[part] == pytest.approx(sum(own) / len(own))
