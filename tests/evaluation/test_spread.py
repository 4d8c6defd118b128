from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional

from fieldmark.errors import DataError, RunError
from fieldmark.evaluation.calibration import (
    calibrate_predictions,
    compute_nll,
    compute_reliability,
    fit_temperature,
)
from fieldmark.evaluation.predictions import load_predictions, save_predictions
from fieldmark.evaluation.rejection import compute_risk_curve
from fieldmark.evaluation.spread import TEMPERATURES


def draw_logits(num_images: int, num_classes: int, scale: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_classes)
    return torch.randn(num_images, num_classes, generator=generator) * scale


@pytest.mark.parametrize(("num_classes", "scale"), [(2, 3.0), (40, 0.5), (40, 8.0), (1000, 3.0)])
def test_nll_at_each_temperature_of_the_grid_is_exact(invent, num_classes, scale) -> None:
    logits = draw_logits(64, num_classes, scale)
    predictions = invent(64, num_classes, logits=logits)
    targets = torch.tensor([t[0] for t in predictions.targets])
    for temperature in TEMPERATURES:
        exact = float(functional.cross_entropy(logits.double() / temperature, targets))
        assert compute_nll(predictions, temperature) == pytest.approx(exact, rel=2e-6, abs=2e-6)


@pytest.mark.parametrize(("num_classes", "scale"), [(2, 3.0), (40, 0.5), (40, 8.0), (1000, 3.0)])
def test_between_the_grid_the_interpolation_is_close(invent, num_classes, scale) -> None:
    logits = draw_logits(64, num_classes, scale)
    predictions = invent(64, num_classes, logits=logits)
    targets = torch.tensor([t[0] for t in predictions.targets])
    drawn = np.random.default_rng(0).uniform(np.log(0.1), np.log(10.0), 40)
    for temperature in np.exp(drawn).tolist():
        scaled = logits.double() / temperature
        exact = float(functional.cross_entropy(scaled, targets))
        assert compute_nll(predictions, temperature) == pytest.approx(exact, abs=2e-4)
        first = scaled.softmax(dim=1).max(dim=1).values.numpy()
        kept = calibrate_predictions(predictions, temperature).top_probability[:, 0]
        assert np.abs(kept - first).max() < 5e-4


def test_probabilities_at_a_temperature_are_those_of_scaled_logits(invent) -> None:
    logits = draw_logits(50, 7, 3.0)
    predictions = invent(50, 7, logits=logits)
    calibrated = calibrate_predictions(predictions, 2.3)
    exact = (logits.double() / 2.3).softmax(dim=1).sort(dim=1, descending=True).values.numpy()
    assert np.abs(calibrated.top_probability - exact).max() < 1e-5
    assert calibrated.top_probability.sum(axis=1) == pytest.approx(1.0, abs=1e-4)
    assert (calibrated.top_index == predictions.top_index).all()


def test_energy_rank_and_mass_are_those_of_the_logits(invent) -> None:
    logits = draw_logits(80, 30, 2.0)
    predictions = invent(80, 30, logits=logits)
    spread = predictions.spread
    assert spread.energy == pytest.approx(logits.logsumexp(dim=1).numpy(), rel=1e-6)
    p = logits.double().softmax(dim=1).numpy()
    for row, (target,) in enumerate(predictions.targets):
        above = p[row] > p[row, target]
        assert spread.true_rank[row] == above.sum() + 1
        assert spread.mass_above[row] == pytest.approx(p[row, above].sum(), abs=1e-6)


def test_a_sure_network_overflows_nothing(invent) -> None:
    logits = torch.tensor([[900.0, 0.0, -900.0]]).repeat(4, 1)
    predictions = invent(4, 3, logits=logits)
    for temperature in (0.1, 1.0, 10.0):
        calibrated = calibrate_predictions(predictions, temperature)
        assert np.isfinite(calibrated.top_probability).all()
        assert np.isfinite(calibrated.loss).all()


def test_a_file_keeps_the_spread_and_grows_with_images_not_classes(invent, tmp_path: Path) -> None:
    sizes = []
    for num_classes in (100, 2000):
        predictions = invent(200, num_classes)
        save_predictions(predictions, tmp_path / "p.parquet")
        back = load_predictions(tmp_path / "p.parquet").spread
        for name in ("log_sums", "energy", "true_rank", "mass_above"):
            assert np.array_equal(getattr(back, name), getattr(predictions.spread, name)), name
        assert back.temperatures == TEMPERATURES
        columns = pq.read_table(tmp_path / "p.parquet").replace_schema_metadata(None)
        sizes.append(columns.nbytes)
    assert sizes[1] < 1.1 * sizes[0]
    assert sizes[1] / 200 < 400  # bytes an image


def test_a_file_of_an_earlier_version_is_read_and_says_what_to_do(invent, tmp_path: Path) -> None:
    old = replace(invent(30), spread=None)
    save_predictions(old, tmp_path / "val.parquet")
    back = load_predictions(tmp_path / "val.parquet")
    assert back.spread is None
    assert compute_reliability(back) and compute_risk_curve(back)
    for ask in (
        lambda: fit_temperature(back),
        lambda: compute_reliability(back, temperature=2.0),
        lambda: compute_risk_curve(back, "energy"),
    ):
        with pytest.raises(DataError, match="fieldmark evaluate RUN --split val"):
            ask()


def test_an_answer_that_is_not_finite_is_refused(invent) -> None:
    logits = draw_logits(5, 4, 1.0)
    logits[3, 2] = float("nan")
    with pytest.raises(RunError, match=r"3.png: the network's answer is not finite.*1 of 5"):
        invent(5, 4, logits=logits)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1.5, -0.1])
def test_a_file_with_impossible_probabilities_is_refused(invent, wrong, tmp_path: Path) -> None:
    predictions = invent(6)
    predictions.top_probability[2, 0] = wrong
    save_predictions(predictions, tmp_path / "test.parquet")
    with pytest.raises(RunError, match=r"1 of 6 images have probabilities.*first 2.png"):
        load_predictions(tmp_path / "test.parquet")
