"""The report as a reader meets it. `open_page` fails a test on any error, dialog or request."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from fieldmark.reporting.report import SECTIONS, render_report, save_report

if TYPE_CHECKING:
    from playwright.sync_api import Page

OpenPage = Callable[..., "Page"]
EVIL = "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"


@pytest.fixture(scope="module")
def ten(drawn: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of ten classes, one of them with a name that would rather be a program."""
    names = [EVIL, "maple", "oak", *(f"species {index}" for index in range(7))]
    table = drawn.draw_table(names, 80)
    folder = drawn.save_run(tmp_path_factory.mktemp("runs") / "ten", table)
    drawn.add_figures(folder)
    return save_report(
        folder, render_report(folder, table, drawn.predict_test(folder, table, skill=2.5))
    )


@pytest.fixture(scope="module")
def many(drawn: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 200 classes and more than 10,000 images."""
    table = drawn.draw_table([f"Species number {index} of many" for index in range(200)], 100)
    folder = drawn.save_run(tmp_path_factory.mktemp("runs") / "many", table)
    predictions = drawn.invent_predictions(table, skill=4.5)
    assert len(predictions) > 10_000
    return save_report(folder, render_report(folder, table, predictions))


def column(page: Page, index: int) -> list[str]:
    """What stands in a column of the class table, as shown."""
    return page.locator(f"#class-table tbody tr:visible > :nth-child({index})").all_inner_texts()


def test_every_section_is_shown(ten: Path, open_page: OpenPage) -> None:
    page = open_page(ten)
    for section in SECTIONS:
        assert page.get_by_role("heading", name=section.title, exact=True).is_visible()
        assert page.locator(f"section#{section.anchor}").bounding_box()["height"] > 100
    broken = "[...document.images].filter((i) => !(i.complete && i.naturalWidth)).length"
    assert page.evaluate(broken) == 0
    assert page.locator("footer").is_visible()


def test_a_label_that_is_a_program_shows_as_text(ten: Path, open_page: OpenPage) -> None:
    page = open_page(ten)
    assert page.evaluate("window.ran") is None
    assert page.locator("#class-table").get_by_text(EVIL, exact=True).first.is_visible()
    page.locator("#matrix-class").fill(EVIL)
    page.locator("#matrix-class").press("Enter")
    assert page.locator("#cell-readout").inner_text().startswith(EVIL)
    assert page.evaluate("window.ran") is None


def test_classes_sort_by_every_column(ten: Path, open_page: OpenPage) -> None:
    page = open_page(ten)
    header = page.get_by_role("button", name="Recall", exact=True)
    header.click()
    recalls = [float(text) for text in column(page, 2)]
    assert recalls == sorted(recalls) and len(set(recalls)) > 1
    header.click()
    assert [float(text) for text in column(page, 2)] == sorted(recalls, reverse=True)
    sorts = page.locator("#class-table th[aria-sort]").evaluate_all(
        "headers => headers.map((h) => h.getAttribute('aria-sort'))"
    )
    assert sorts.count("none") == len(sorts) - 1 and "descending" in sorts
    page.get_by_role("button", name="Class", exact=True).click()
    names = column(page, 1)
    assert names.index("maple") < names.index("oak") < names.index("species 0")


def test_classes_sort_by_keyboard(ten: Path, open_page: OpenPage) -> None:
    page = open_page(ten)
    page.locator("#class-kind").focus()
    page.keyboard.press("Tab")  # the table itself, which scrolls
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Class"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    recalls = [float(text) for text in column(page, 2)]
    assert recalls == sorted(recalls)
    page.keyboard.press("Space")
    assert [float(text) for text in column(page, 2)] == sorted(recalls, reverse=True)


def test_classes_are_filtered_by_name_and_kind(ten: Path, open_page: OpenPage) -> None:
    page = open_page(ten)
    told = page.locator("#class-count")
    assert told.inner_text() == "10 of 10"
    page.get_by_label("Show classes containing").fill("SPECIES")
    assert told.inner_text() == "7 of 10" and len(column(page, 1)) == 7
    page.locator("#class-kind").select_option("tail")
    assert told.inner_text() == "3 of 10"
    page.get_by_label("Show classes containing").fill("no such class")
    assert (
        told.inner_text() == "0 of 10" and page.get_by_text("No class is like that.").is_visible()
    )
    page.get_by_label("Show classes containing").press("Enter")
    assert page.url.startswith("file:") and "?" not in page.url


def test_pointing_at_a_square_names_classes_and_counts(ten: Path, open_page: OpenPage) -> None:
    page = open_page(ten)
    cells = page.locator("svg.cells")
    cells.scroll_into_view_if_needed()
    box = cells.bounding_box()
    page.mouse.move(box["x"] + 0.05 * box["width"], box["y"] + 0.05 * box["height"])
    text = page.locator("#cell-readout").inner_text()
    assert re.search(r", named rightly: \d+ of \d+ \([\d.]+ %\)$", text)
    page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 0.05 * box["height"])
    text = page.locator("#cell-readout").inner_text()
    first = page.locator(".rows li").first.get_attribute("title")
    last = page.locator(".columns li").last.get_attribute("title")
    assert text.startswith(f"{first}, taken for {last}: ")


def test_the_matrix_is_read_and_zoomed_by_keyboard(ten: Path, open_page: OpenPage) -> None:
    page = open_page(ten)
    view = page.locator("#matrix-view")
    view.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    rows = page.locator(".rows li").evaluate_all("all => all.map((li) => li.title)")
    said = page.locator("#cell-readout")
    assert said.inner_text().startswith(f"{rows[1]}, named rightly: ")
    assert said.get_attribute("aria-live") == "polite"
    page.keyboard.press("n")
    assert ", taken for " in said.inner_text() and ": 0 of" not in said.inner_text()
    before = page.locator("svg.cells").bounding_box()["width"]
    page.keyboard.press("+")
    assert page.locator("svg.cells").bounding_box()["width"] > 1.2 * before
    page.keyboard.press("0")
    assert page.locator("svg.cells").bounding_box()["width"] == before
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") != "matrix-view"


def test_names_are_readable_at_ten_classes_and_zoomed_at_two_hundred(
    ten: Path, many: Path, open_page: OpenPage
) -> None:
    page = open_page(ten)
    height = "names => Math.min(...names.map((li) => parseFloat(getComputedStyle(li).fontSize)))"
    assert page.locator(".rows li").evaluate_all(height) >= 12
    page = open_page(many)
    names = page.locator(".rows li")
    assert names.count() == 200 and not names.first.is_visible()
    box = page.locator("svg.cells").bounding_box()
    assert box["width"] > 800 and abs(box["width"] - box["height"]) < 1
    page.locator("#matrix-class").fill("Species number 126 of many")
    page.locator("#matrix-class").press("Enter")
    here = page.locator(".rows li.here")
    assert here.get_attribute("title") == "Species number 126 of many"
    assert names.evaluate_all(height) >= 11
    # The name of the row stays beside the square, and both are in sight.
    frame = page.locator("#matrix-view").bounding_box()
    cursor, name = page.locator(".cursor").bounding_box(), here.bounding_box()
    for found in (cursor, name):
        assert frame["x"] - 1 <= found["x"] <= frame["x"] + frame["width"]
        assert frame["y"] - 1 <= found["y"] <= frame["y"] + frame["height"]
    assert name["x"] + name["width"] <= cursor["x"] + 1 and abs(name["y"] - cursor["y"]) < 2


def test_the_matrix_fits_the_window_again_when_that_changes(ten: Path, open_page: OpenPage) -> None:
    page = open_page(ten, viewport={"width": 1300, "height": 900})
    size = "document.querySelector('svg.cells').getBoundingClientRect().width"
    before = page.evaluate(size)
    page.screenshot(full_page=True)
    page.wait_for_function(f"{size} === {before}")
    page.set_viewport_size({"width": 420, "height": 900})
    page.wait_for_function(f"{size} > 100 && {size} < 400")
    page.set_viewport_size({"width": 1300, "height": 900})
    page.wait_for_function(f"{size} === {before}")


def test_two_hundred_classes_sort_and_filter(many: Path, open_page: OpenPage) -> None:
    page = open_page(many)
    page.get_by_role("button", name="F1", exact=True).click()
    scores = [float(text) for text in column(page, 4)]
    assert scores == sorted(scores) and len(scores) == 200
    page.get_by_label("Show classes containing").fill("number 19")
    assert page.locator("#class-count").inner_text() == "11 of 200"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_paper(scheme: str, ten: Path, open_page: OpenPage) -> None:
    page = open_page(ten, color_scheme=scheme)
    luminance = page.evaluate(LUMINANCES)
    assert (luminance["paper"] > 0.8) == (scheme == "light")
    for name in ("ink", "muted", "link", "right", "wrong"):
        low, high = sorted((luminance["paper"], luminance[name]))
        assert (high + 0.05) / (low + 0.05) >= 4.5, name


LUMINANCES = """() => {
  const style = getComputedStyle(document.documentElement);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (name) => {
    const hex = style.getPropertyValue(`--${name}`).trim();
    const [r, g, b] = [1, 3, 5].map((i) => linear(parseInt(hex.slice(i, i + 2), 16) / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const names = ["paper", "ink", "muted", "link", "right", "wrong"];
  return Object.fromEntries(names.map((name) => [name, light(name)]));
}"""


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_no_width_makes_the_page_scroll_sideways(
    width: int, ten: Path, many: Path, open_page: OpenPage
) -> None:
    for path in (ten, many):
        page = open_page(path, viewport={"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_print_opens_what_is_closed_and_drops_what_cannot_be_used(
    ten: Path, open_page: OpenPage
) -> None:
    page = open_page(ten)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator("nav").is_visible() and not page.locator("#matrix-tools").is_visible()
    assert page.pdf().startswith(b"%PDF")


def test_everything_that_can_be_used_has_a_name(ten: Path, open_page: OpenPage) -> None:
    page = open_page(ten)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for role in ("button", "searchbox", "combobox", "region", "img", "table", "link"):
        found = page.get_by_role(role)  # type: ignore[arg-type]
        named = page.get_by_role(role, name=re.compile(r"\S"))  # type: ignore[arg-type]
        assert found.count() == named.count() > 0 or role in ("searchbox", "combobox"), role
    unlabelled = "all => all.filter((one) => !one.labels?.length).length"
    assert page.locator("input, select").evaluate_all(unlabelled) == 0
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map((h) => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
