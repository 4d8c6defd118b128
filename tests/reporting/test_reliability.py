from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fieldmark.data.table import Table
from fieldmark.evaluation.metrics import compute_metrics
from fieldmark.evaluation.trust import fit_calibration
from fieldmark.reporting.material import gather
from fieldmark.reporting.reliability import build_reliability
from fieldmark.reporting.report import render_report
from fieldmark.reporting.trust_charts import draw_reliability, draw_risk


@pytest.fixture(scope="module")
def table(drawn: SimpleNamespace) -> Table:
    return drawn.draw_table([f"c{index}" for index in range(6)], 120)


def test_error_and_mean_accuracy_are_those_of_the_metrics(
    drawn: SimpleNamespace, table: Table, tmp_path: Path
) -> None:
    folder = drawn.save_run(tmp_path / "run", table)
    predictions = drawn.predict_test(folder, table, skill=2.5)
    found = build_reliability(gather(folder, None, predictions))
    metrics = compute_metrics(predictions)
    assert found is not None and found.temperature is None
    assert found.before.error == pytest.approx(metrics["ece"], abs=1e-6)
    assert found.before.accuracy == pytest.approx(metrics["accuracy"], abs=1e-9)
    assert found.kept[-1].coverage == 1.0
    assert found.kept[-1].risk == pytest.approx(1 - metrics["accuracy"], abs=1e-9)


def test_a_fitted_temperature_is_drawn_beside(
    drawn: SimpleNamespace, table: Table, tmp_path: Path
) -> None:
    folder = drawn.save_run(tmp_path / "run", table)
    predictions = drawn.predict_test(folder, table, skill=2.5)
    folder.save_calibration(fit_calibration(predictions).to_json())
    found = build_reliability(gather(folder, None, predictions))
    assert found is not None and found.after is not None and found.temperature is not None
    assert found.after.accuracy == pytest.approx(found.before.accuracy)
    assert draw_reliability(found).count("<circle") == len(found.before.bins) + len(
        found.after.bins
    )
    assert "at the temperature" in render_report(folder, table, predictions)


def test_a_run_without_mistakes_and_a_multilabel_one_are_drawn(
    drawn: SimpleNamespace, table: Table, tmp_path: Path
) -> None:
    folder = drawn.save_run(tmp_path / "run", table)
    perfect = drawn.predict_test(folder, table, skill=40.0)
    found = build_reliability(gather(folder, None, perfect))
    assert found is not None and "<path" in draw_risk(found)
    several = replace(perfect, task="multilabel", spread=None)
    found = build_reliability(gather(folder, None, several))
    assert found is not None and found.curve == ()


def test_unlabelled_images_have_no_reliability(
    drawn: SimpleNamespace, table: Table, tmp_path: Path
) -> None:
    folder = drawn.save_run(tmp_path / "run", table)
    predictions = drawn.predict_test(folder, table)
    bare = replace(
        predictions, targets=((),) * len(predictions), loss=predictions.loss * float("nan")
    )
    assert build_reliability(gather(folder, None, bare)) is None
