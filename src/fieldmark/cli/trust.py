"""Calibrations and changes as JSON and as what a person reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from fieldmark.evaluation.change import Change
    from fieldmark.evaluation.trust import Calibration, CalibrationCheck
    from fieldmark.verbs.calibration import Calibrated

Shown = str | Table | Text


def describe_change(change: Change, than: str) -> tuple[dict[str, object], str]:
    """The JSON of a change, and a line."""
    result: dict[str, object] = {
        "metrics": dict(change.metrics),
        "num_won": change.num_won,
        "num_lost": change.num_lost,
        "p_value": change.p_value,
    }
    moved = "  ".join(
        f"{name} {change.metrics[name]:+.4f}" for name in ("accuracy", "macro_f1", "nll", "ece")
    )
    told = (
        f"change   against {than}: {moved}; {change.num_won} images won, {change.num_lost} lost "
        f"(McNemar p = {change.p_value:.2g})"
    )
    return result, told


def describe_calibration(
    calibrated: Calibrated, check: CalibrationCheck | None, split: str
) -> tuple[dict[str, object], list[Shown]]:
    """The JSON of a calibration and its check on a split, and a table."""
    calibration = calibrated.calibration
    result: dict[str, object] = {**calibration.to_json(), "path": str(calibrated.path)}
    if check is not None:
        result["check"] = _as_json(check, split)
    table = Table(
        title=f"calibration on {calibration.temperature.num_images} val images"
        + (f", checked on {check.num_images} of {split}" if check else ""),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
    )
    table.add_column("what", no_wrap=True)
    table.add_column("val", justify="right")
    if check is not None:
        table.add_column(split, justify="right")
    for row in _rows(calibration, check):
        table.add_row(*row[: len(table.columns)])
    low, high = calibration.coverage_range
    notes = [
        f"note     Thresholds from {calibration.temperature.num_images} images: the coverage on "
        f"many new images lies between {low:.0%} and {high:.0%} in nine of ten cases, on average "
        "over images, not for each class."
    ]
    if calibration.temperature.note is not None:
        notes.append(f"note     {calibration.temperature.note}")
    return result, [table, *notes, f"stored   {calibrated.path}"]


def _rows(calibration: Calibration, check: CalibrationCheck | None) -> list[tuple[str, str, str]]:
    fit = calibration.temperature
    rows = [
        (
            "temperature",
            f"{fit.temperature:.3f}",
            "",
        ),
        (
            "  nll, plain -> calibrated",
            f"{fit.nll_before:.4f} -> {fit.nll_after:.4f}",
            f"{check.nll_before:.4f} -> {check.nll_after:.4f}" if check else "",
        ),
        (
            "  ece, plain -> calibrated",
            f"{fit.ece_before:.4f} -> {fit.ece_after:.4f}",
            f"{check.ece_before:.4f} -> {check.ece_after:.4f}" if check else "",
        ),
    ]
    for method, rule in calibration.sets.items():
        told = ""
        if check is not None:
            found = check.sets[method]
            least = "" if found.is_exact else "at least "
            told = f"{found.coverage:.1%} hold it, {least}{found.mean_size:.2f} classes"
        aim = f"{calibration.coverage:.1%} (q {rule.threshold:.4f})"
        rows.append((f"label sets by {method}", aim, told))
    for kind, rejection in calibration.rejection.items():
        told = ""
        if check is not None:
            done = check.rejection[kind]
            told = f"{done.coverage:.1%} answered, {done.risk:.1%} wrong"
        aim = f"{calibration.keep:.1%} (from {rejection.threshold:.4f})"
        rows.append((f"answers by {kind.replace('_', ' ')}", aim, told))
    if check is not None:
        rows.append(("answers to all", "", f"100.0% answered, {check.risk:.1%} wrong"))
    return rows


def _as_json(check: CalibrationCheck, split: str) -> dict[str, object]:
    return {
        "split": split,
        "num_images": check.num_images,
        "nll": {"before": check.nll_before, "after": check.nll_after},
        "ece": {"before": check.ece_before, "after": check.ece_after},
        "risk": check.risk,
        "sets": {
            method: {
                "coverage": found.coverage,
                "mean_size": found.mean_size,
                "is_exact": found.is_exact,
            }
            for method, found in check.sets.items()
        },
        "reject": {
            kind: {
                "coverage": done.coverage,
                "risk": None if math.isnan(done.risk) else done.risk,
                "area": done.area,
            }
            for kind, done in check.rejection.items()
        },
    }
