"""The page about several runs, from records made by hand, and in a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fieldmark.evaluation.comparison.records import ComparedPair, ComparedRow, Comparison
from fieldmark.reporting.comparison_page import render_comparison, save_comparison

if TYPE_CHECKING:
    from playwright.sync_api import Page

OpenPage = Callable[..., "Page"]
EVIL = "<script>window.ran = 1</script>"


def invent_row(
    name: str, accuracy: float, *, seeds: int = 1, cost: float | None = 12.0
) -> ComparedRow:
    metrics = {"accuracy": accuracy, "macro_f1": accuracy - 0.02, "nll": 1.2 - accuracy}
    return ComparedRow(
        name=name,
        runs=tuple(f"runs/{name}-{seed}" for seed in range(seeds)),
        num_seeds=seeds,
        metrics=metrics,
        spread=None if seeds == 1 else dict.fromkeys(metrics, 0.004),
        intervals={key: (value - 0.03, value + 0.03) for key, value in metrics.items()},
        parameters=None if cost is None else 5_500_000,
        seconds=cost,
        images_per_second=cost,
        peak_memory_mb=cost,
    )


def invent_pair(a: str, b: str, difference: float, verdict: str) -> ComparedPair:
    return ComparedPair(
        a=a,
        b=b,
        metric="accuracy",
        difference=difference,
        interval=(difference - 0.02, difference + 0.02),
        relative_change=difference / 0.8,
        p_value=0.01,
        p_adjusted=0.0004 if verdict in ("better", "worse") else 0.37,
        test="McNemar exact",
        verdict=verdict,
        images_needed=None if verdict in ("better", "worse") else 5210,
    )


UNDECIDED = "cannot be told apart on 300 images; about 5210 would be needed"


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    rows = (
        invent_row(EVIL, 0.91, seeds=3),
        invent_row("mlp", 0.86),
        invent_row("linear", 0.85, cost=None),
    )
    pairs = (
        invent_pair(EVIL, "mlp", 0.05, "better"),
        invent_pair(EVIL, "linear", 0.06, "better"),
        invent_pair("mlp", "linear", 0.01, UNDECIDED),
    )
    return Comparison("accuracy", "test", 300, rows, pairs, ("leaves-ifa is a single seed.",))


def test_the_page_tells_scores_verdicts_and_costs(comparison: Comparison) -> None:
    html = render_comparison(comparison)
    assert "0.910" in html and "± 0.004" in html and "0.880 to 0.940" in html
    assert "+0.050" in html and "+0.030 to +0.070" in html and "&lt; 0.001" in html
    assert UNDECIDED in html and ">leaves-ifa is a single seed.<" in html
    assert "5.50 M" in html and html.count(">–</td>") == 4
    assert EVIL not in html and "://" not in html


def test_a_single_recipe_has_no_pairs(comparison: Comparison) -> None:
    alone = Comparison("accuracy", "test", 300, comparison.rows[:1], ())
    assert "nothing to hold against it" in render_comparison(alone)


def test_pairs_are_filtered_and_rows_sorted(
    comparison: Comparison, tmp_path: Path, open_page: OpenPage
) -> None:
    page = open_page(save_comparison(tmp_path / "page.html", render_comparison(comparison)))
    assert page.evaluate("window.ran") is None
    assert page.get_by_text(EVIL, exact=True).first.is_visible()
    page.get_by_label("that are").select_option("undecided")
    assert page.locator("#pair-count").inner_text() == "1 of 3"
    assert page.locator("#pair-table tbody tr:visible .verdict").inner_text() == UNDECIDED
    page.locator("#scores").get_by_role("button", name="accuracy", exact=True).press("Enter")
    names = page.locator("#scores tbody th").all_inner_texts()
    assert names == ["linear", "mlp", EVIL]


@pytest.mark.parametrize("width", [360, 1400])
def test_no_width_makes_the_page_scroll_sideways(
    width: int, comparison: Comparison, tmp_path: Path, open_page: OpenPage
) -> None:
    path = save_comparison(tmp_path / "page.html", render_comparison(comparison))
    page = open_page(path, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
