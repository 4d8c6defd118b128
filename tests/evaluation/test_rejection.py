from __future__ import annotations

import numpy as np
import pytest
import torch

from fieldmark.errors import DataError, FieldmarkError
from fieldmark.evaluation.calibration import first_hits
from fieldmark.evaluation.rejection import (
    RejectionRule,
    compute_risk_curve,
    fit_rejection,
    parse_score,
    risk_area,
)


@pytest.mark.parametrize("score", ["probability", "energy"])
def test_each_point_says_what_its_threshold_does(invent, score) -> None:
    predictions = invent(400)
    values = (
        predictions.top_probability[:, 0] if score == "probability" else predictions.spread.energy
    )
    wrong = 1.0 - first_hits(predictions)
    points = compute_risk_curve(predictions, score)
    assert 100 < len(points) <= 200
    for point in points:
        answered = values >= point.threshold
        assert point.coverage == pytest.approx(answered.mean())
        assert point.risk == pytest.approx(wrong[answered].mean())
    assert points[-1].coverage == 1.0 and points[-1].risk == pytest.approx(wrong.mean())
    assert [p.coverage for p in points] == sorted(p.coverage for p in points)


def test_answering_less_is_safer(invent) -> None:
    points = compute_risk_curve(invent(3000))
    half = next(p for p in points if p.coverage >= 0.5)
    assert half.risk < 0.75 * points[-1].risk
    assert 0.0 < risk_area(invent(3000)) < points[-1].risk


def test_images_of_one_score_stay_together(invent) -> None:
    same = torch.tensor([[2.0, 0.0]]).repeat(10, 1)
    points = compute_risk_curve(invent(10, 2, logits=same))
    assert len(points) == 1 and points[0].coverage == 1.0
    assert risk_area(invent(10, 2, logits=same)) == pytest.approx(points[0].risk)


def test_energy_tells_strangers_by_their_small_logits(invent) -> None:
    generator = np.random.default_rng(0)
    places = generator.integers(0, 3, 200)
    known = torch.tensor(generator.normal(6.0, 1.0, (200, 1)) * np.eye(3)[places])
    strange = torch.tensor(generator.normal(0.0, 1.0, (200, 3)))
    rule = fit_rejection(invent(200, 3, logits=known), "energy", keep=0.95)
    assert rule.is_unknown(invent(200, 3, logits=known)).mean() == pytest.approx(0.05)
    assert rule.is_unknown(invent(200, 3, logits=strange)).mean() > 0.9


@pytest.mark.parametrize("keep", [0.5, 0.95, 1.0])
def test_the_threshold_lets_the_share_pass(invent, keep) -> None:
    predictions = invent(400)
    for score in ("probability", "energy"):
        rule = fit_rejection(predictions, score, keep)
        assert 1.0 - rule.is_unknown(predictions).mean() == pytest.approx(keep, abs=1 / 400)


def test_unreadable_images_are_not_unknown(invent) -> None:
    predictions = invent(3)
    predictions.top_probability[1] = np.nan
    assert RejectionRule("probability", 2.0).is_unknown(predictions).tolist() == [True, False, True]


def test_where_there_is_no_score_it_is_told(invent) -> None:
    with pytest.raises(DataError, match="a binary run has one logit"):
        compute_risk_curve(invent(20, 2, task="binary"), "energy")
    assert compute_risk_curve(invent(20, 2, task="binary"))
    with pytest.raises(DataError, match="multi-label"):
        compute_risk_curve(invent(20, task="multilabel"))
    with pytest.raises(FieldmarkError, match="Did you mean 'energy'"):
        parse_score("energi")
    with pytest.raises(FieldmarkError, match="keep: expected a share above 0 and up to 1, not 0"):
        fit_rejection(invent(20), "probability", 0.0)


def test_nothing_labelled_gives_no_curve(invent) -> None:
    predictions = invent(5)
    predictions.loss[:] = np.nan
    assert compute_risk_curve(predictions) == []
