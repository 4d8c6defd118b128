from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fieldmark.data.class_sizes import PARTS
from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Table
from fieldmark.evaluation.metrics import compute_metrics
from fieldmark.reporting import inside
from fieldmark.reporting.classes import divide_into_parts, wilson_interval
from fieldmark.reporting.dataset import build_dataset
from fieldmark.reporting.findings import find_in_data
from fieldmark.reporting.material import gather
from fieldmark.reporting.mistakes import name_mistakes
from fieldmark.reporting.nearest import Near, Nearest
from fieldmark.reporting.report import SECTIONS, render_report, save_report
from fieldmark.reporting.writing import write_report
from fieldmark.runs.folder import RunFolder

EVIL = "<script>alert('1')</script>\"><img src=x onerror=alert(2)>"
NAMES = ["maple", "oak", EVIL, "lime & elm", "birch", "hazel", "beech"]
VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """What stands in a page: its tags with attributes, texts by tag, and whether tags match."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, text: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", text))

    @property
    def text(self) -> str:
        shown = (text for tag, text in self.texts if tag not in {"style", "script"})
        return re.sub(r"\s+", " ", " ".join(shown))

    def values(self, tag: str, attribute: str) -> list[str]:
        return [found.get(attribute) or "" for name, found in self.tags if name == tag]

    def matrix(self) -> dict[str, list[Any]]:
        """What the page's script knows of the confusion matrix."""
        return json.loads("".join(text for _, text in self.texts if text.startswith('{"names"')))

    def anchors(self) -> set[str]:
        return {found["id"] or "" for name, found in self.tags if name == "section"}


@pytest.fixture(scope="module")
def table(drawn: SimpleNamespace) -> Table:
    return drawn.draw_table(NAMES, 60)


@pytest.fixture(scope="module")
def folder(
    drawn: SimpleNamespace, table: Table, tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    folder = drawn.save_run(tmp_path_factory.mktemp("runs") / "seven leaves", table)
    drawn.add_figures(folder)
    return folder


@pytest.fixture(scope="module")
def html(drawn: SimpleNamespace, folder: RunFolder, table: Table) -> str:
    return render_report(folder, table, drawn.predict_test(folder, table, skill=3.0))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_page_is_well_formed_and_has_every_section(page: Page) -> None:
    assert page.open == []
    assert page.anchors() == {section.anchor for section in SECTIONS}
    links = {link for link in page.values("a", "href") if link.startswith("#")}
    assert {f"#{section.anchor}" for section in SECTIONS} <= links


def test_title_and_command_are_those_of_the_run(page: Page) -> None:
    assert ("h1", "seven leaves") in page.texts
    assert "fieldmark train 'my leaves' --recipe quick" in page.text


def test_headline_scores_are_those_of_the_metrics(
    drawn: SimpleNamespace, page: Page, folder: RunFolder, table: Table
) -> None:
    metrics = compute_metrics(drawn.predict_test(folder, table, skill=3.0))
    assert f"{100 * metrics['accuracy']:.1f} %" in page.text
    for name in ("macro_f1", "kappa", "nll"):
        assert f" {metrics[name]:.3f} " in page.text, name
    assert len(re.findall(r"95 % interval \S*\d", page.text)) == 5
    assert page.values("svg", "class").count("interval") == 5


def test_labels_show_as_text_and_never_become_markup(html: str, page: Page) -> None:
    assert EVIL in page.text
    assert any(EVIL in title for title in page.values("div", "title"))
    assert EVIL in page.values("option", "value")
    assert EVIL in page.matrix()["names"]
    assert EVIL not in html and "<script>alert" not in html
    assert page.values("script", "type") == ["application/json", ""]
    assert all("onerror" not in found for _, found in page.tags)


def test_page_asks_nothing_of_a_network(html: str, page: Page) -> None:
    assert not re.findall(r"https?://|url\(|@import", html)
    sources = [s for tag in ("img", "script", "link", "iframe") for s in page.values(tag, "src")]
    assert all(re.match(r"$|data:image/(jpeg|webp);base64,", source) for source in sources)
    policy = next(value for value in page.values("meta", "content") if "default-src" in value)
    assert policy.startswith("default-src 'none'")


def test_policy_allows_the_script_of_the_page(html: str) -> None:
    import hashlib
    from base64 import b64encode

    script = re.search(r"<script>(.*)</script>\n</body>", html, re.DOTALL)
    assert script is not None
    digest = b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


def test_figures_tables_and_pictures_have_words(page: Page) -> None:
    assert all(page.values("img", "alt"))
    assert page.values("table", "class") and len(page.values("caption", "class")) == len(
        page.values("table", "class")
    )
    for tag, found in page.tags:
        if tag == "svg":
            assert found.get("aria-label") or found.get("aria-hidden") == "true"


def test_every_class_has_an_example_and_its_counts(page: Page, table: Table) -> None:
    examples = [alt for alt in page.values("img", "alt") if alt.startswith("An example of")]
    assert len(examples) == len(NAMES)
    counts = table.select("train").class_counts()
    assert f"{counts['maple']} train" in re.sub(r" +", " ", page.text)


def test_a_file_on_two_sides_is_told(drawn: SimpleNamespace, table: Table, tmp_path: Path) -> None:
    folder = drawn.save_run(tmp_path / "run", table)
    hashes = {row.image: f"{place}" for place, row in enumerate(table.rows)}
    one = table.select("train").rows[0].image
    other = table.select("test").rows[0].image
    folder.save_split(table, {**hashes, one: "same", other: "same"})
    text = Page(render_report(folder, table, None)).text
    assert "1 file is on more than one side of the split" in text and other in text
    assert "No file is on two sides" not in text


def test_split_without_shared_files_is_proven(page: Page) -> None:
    assert "No file is on two sides." in page.text


def test_left_out_images_come_with_reasons(page: Page) -> None:
    assert "images/broken.png" in page.text and "unreadable: not an image" in page.text


def test_kept_epoch_is_marked(page: Page, folder: RunFolder) -> None:
    best = [line["epoch"] for line in folder.load_metrics() if line["is_best"]][-1]
    assert page.text.count(f"kept: {best}") == 2
    assert f"the weights of epoch {best} were kept" in page.text


@pytest.mark.parametrize("num_epochs", [1, 2, 100, 1000])
def test_curves_of_any_length_are_drawn(
    drawn: SimpleNamespace, num_epochs: int, table: Table, tmp_path: Path
) -> None:
    folder = drawn.save_run(tmp_path / "run", table, num_epochs=num_epochs)
    page = Page(render_report(folder, None, None))
    charts = [found for tag, found in page.tags if tag == "svg" and found["class"] == "chart"]
    assert len(charts) == 2
    places = [float(y) for y in page.values("circle", "cy") if y]
    assert places and all(0 <= y <= 280 for y in places)


def test_epoch_zero_without_a_train_loss_is_drawn(
    drawn: SimpleNamespace, table: Table, tmp_path: Path
) -> None:
    folder = drawn.save_run(tmp_path / "run", table)
    folder.save_metrics([{"epoch": 0, "val_nll": 1.0, "val_accuracy": 0.5, "val_macro_f1": 0.4}])
    assert "nothing was trained" in Page(render_report(folder, None, None)).text


def test_run_without_a_val_split_shows_the_train_loss(
    drawn: SimpleNamespace, table: Table, tmp_path: Path
) -> None:
    folder = drawn.save_run(tmp_path / "run", table)
    kept = ("epoch", "train_loss")
    folder.save_metrics([{key: line[key] for key in kept} for line in drawn.invent_epochs(5)])
    page = Page(render_report(folder, None, None))
    assert page.values("svg", "class").count("chart") == 1
    assert "There was no val split to choose by" in page.text


def test_run_that_learned_nothing_is_drawn(
    drawn: SimpleNamespace, table: Table, tmp_path: Path
) -> None:
    folder = drawn.save_run(tmp_path / "run", table)
    nothing = {"train_loss": 2.0, "val_nll": 2.0, "val_accuracy": 0.0, "val_macro_f1": 0.0}
    folder.save_metrics([{"epoch": epoch, **nothing} for epoch in (1, 2, 3)])
    assert Page(render_report(folder, None, None)).values("svg", "class").count("chart") == 2


def test_unreadable_images_are_counted_apart(
    drawn: SimpleNamespace, folder: RunFolder, table: Table
) -> None:
    predictions = drawn.predict_test(folder, table, skill=3.0)
    loss = predictions.loss.copy()
    loss[0] = float("nan")
    broken = replace(
        predictions,
        loss=loss,
        predicted=((), *predictions.predicted[1:]),
        errors={predictions.images[0]: "truncated"},
    )
    text = Page(render_report(folder, table, broken)).text
    assert f"Of {len(predictions) - 1} test images" in text
    assert "1 more could not be read" in text
    assert f"of {len(predictions) - 1} images are named wrongly" in text


def test_missing_predictions_are_told_and_the_rest_is_shown(
    folder: RunFolder, table: Table
) -> None:
    page = Page(render_report(folder, table, None))
    assert page.anchors() == {"data", "curves", "inside", "making"}
    assert "No predictions are stored for this run" in page.text


def test_missing_pictures_are_told_and_the_rest_is_shown(
    drawn: SimpleNamespace, folder: RunFolder, table: Table
) -> None:
    predictions = drawn.predict_test(folder, table)
    for without in (None, replace(table, store=MemoryStore({}))):
        page = Page(render_report(folder, without, predictions))
        assert "The pictures are gone" in page.text
        assert not [src for src in page.values("img", "src") if "jpeg" in src]
        assert page.anchors() == {section.anchor for section in SECTIONS}


def test_unfinished_run_is_told(drawn: SimpleNamespace, table: Table, tmp_path: Path) -> None:
    folder = drawn.save_run(tmp_path / "run", table, finished=False)
    folder.save_metrics([])
    page = Page(render_report(folder, table, None))
    assert "This run is not finished" in page.text
    assert page.anchors() == {"data", "making"}


def test_images_without_known_labels_are_told(
    drawn: SimpleNamespace, folder: RunFolder, table: Table
) -> None:
    predictions = drawn.predict_test(folder, table)
    nothing = replace(
        predictions,
        targets=((),) * len(predictions),
        loss=predictions.loss * float("nan"),
    )
    page = Page(render_report(folder, table, nothing))
    assert "there is nothing to score" in page.text
    assert "classes" not in page.anchors() and "mistakes" not in page.anchors()


def test_multilabel_has_no_matrix_and_is_otherwise_whole(
    drawn: SimpleNamespace, table: Table, tmp_path: Path
) -> None:
    folder = drawn.save_run(tmp_path / "run", table)
    predictions = replace(drawn.predict_test(folder, table, skill=3.0), task="multilabel")
    page = Page(render_report(folder, table, predictions))
    assert "confusion" not in page.anchors()
    assert {"scores", "classes", "mistakes"} <= page.anchors()


def test_file_names_that_are_not_text_are_shown_readable(
    drawn: SimpleNamespace, tmp_path: Path
) -> None:
    table = drawn.draw_table(["a", "b"], 10)
    odd = "images/\udcff.png"
    rows = (replace(table.rows[0], image=odd), *table.rows[1:])
    images = {**table.store.images, odd: table.store.read(table.rows[0].image)}  # type: ignore[attr-defined]
    odd_table = replace(table, rows=rows, store=MemoryStore(images))
    folder = drawn.save_run(tmp_path / "run", odd_table)
    path = save_report(folder, render_report(folder, odd_table, None))
    assert "An example of a" in Page(path.read_text(encoding="utf-8")).values("img", "alt")


def test_findings_name_what_is_odd(drawn: SimpleNamespace, tmp_path: Path) -> None:
    table = drawn.draw_table(["big", "small", "unlearned"], 300)
    rows = [row for row in table.rows if row.labels != ("unlearned",) or row.split == "test"]
    rows = [row for row in rows if row.labels != ("small",) or int(row.image[-8:-4]) < 20]
    odd = replace(table, rows=tuple(rows))
    folder = drawn.save_run(tmp_path / "run", odd)
    hashes = {row.image: str(place) for place, row in enumerate(odd.rows)}
    alike = [row.image for row in odd.select("train").rows if row.labels == ("big",)][:2]
    disputed = [next(r.image for r in odd.rows if r.labels == (n,)) for n in ("small", "unlearned")]
    hashes |= dict.fromkeys(alike, "copy") | dict.fromkeys(disputed, "dispute")
    folder.save_split(odd, hashes)
    found = [f.title for f in find_in_data(gather(folder, None, None))]
    assert found == [
        "1 file is on more than one side of the split",
        "1 class is tested that training never saw",
        "1 file has different labels",
        "1 image could not be read",
        "1 class has fewer than 5 test images",
        "The largest class has 15 times the images of the smallest",
        "1 file is there more than once, on one side",
    ]


def test_the_same_images_have_the_same_fingerprint(
    drawn: SimpleNamespace, table: Table, tmp_path: Path
) -> None:
    one, other = (drawn.save_run(tmp_path / name, table) for name in ("one", "other"))
    hashes = {row.image: f"{place}" for place, row in enumerate(table.rows)}
    changed = {**hashes, table.select("val").rows[0].image: "another"}
    one.save_split(table, hashes)
    other.save_split(replace(table, rows=table.rows[::-1]), changed)
    sides = [build_dataset(gather(folder, None, None)).sides for folder in (one, other)]
    same = [a.fingerprint == b.fingerprint for a, b in zip(*sides, strict=True)]
    assert same == [True, False, True]


def test_figures_of_inspect_are_embedded_small(
    drawn: SimpleNamespace, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = drawn.save_run(tmp_path / "run", table)
    monkeypatch.setattr(inside, "MAX_WIDTH_PX", 200)
    drawn.add_figures(folder, 3, size=300)
    (folder.figures_dir / "attention-resnet18-1.png").write_bytes(b"no picture")
    page = Page(render_report(folder, None, None))
    shown = [found for tag, found in page.tags if tag == "img"]
    assert [found["width"] for found in shown] == ["200", "200"]
    assert shown[0]["alt"] == "Attention 0. Block 11, <b>leaf</b>, test."
    assert "1 more figure is in the run folder" in page.text
    monkeypatch.setattr(inside, "MAX_TOTAL_BYTES", 1000)
    assert "3 more figures are in the run folder" in Page(render_report(folder, None, None)).text


def test_nearest_training_images_stand_beside_a_mistake(
    drawn: SimpleNamespace, folder: RunFolder, table: Table
) -> None:
    predictions = drawn.predict_test(folder, table, skill=3.0)
    image = name_mistakes(predictions)[0]
    given = predictions.labels[predictions.images.index(image)]
    train = [row for row in table.rows if row.split == "train"]
    near = tuple(
        Near(row.image, row.label, 0.9)
        for row in (train[0], *(r for r in train if r.label == given))
    )[:4]
    page = Page(render_report(folder, table, predictions, Nearest({image: near}, 90, 120)))
    assert "chosen from 90 of 120" in page.text
    assert page.values("ol", "class").count("nearest") == 1
    assert page.values("li", "class").count("given") == 3
    refused = render_report(folder, table, predictions, "the weights are gone")
    assert "The nearest training images are not shown: The weights are gone." in refused


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (5, 5), (3, 7), (90, 100)])
def test_interval_of_a_recall_is_that_of_scipy(hits: int, count: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson_interval(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_parts_are_by_images_learned_from() -> None:
    sizes = {f"c{index}": 10 * (index + 1) for index in range(9)}
    parts = divide_into_parts(sizes)
    assert [parts[f"c{index}"] for index in (8, 5, 0)] == list(PARTS)
    assert divide_into_parts(dict.fromkeys(sizes, 10)) == {}
    assert divide_into_parts({"a": 1, "b": 100}) == {}


def test_two_hundred_classes_stay_under_six_megabytes(
    drawn: SimpleNamespace, tmp_path: Path
) -> None:
    table = drawn.draw_table([f"Species number {index} of many" for index in range(200)], 100)
    folder = drawn.save_run(tmp_path / "run", table, num_epochs=100)
    # Without any skill most squares of the matrix are taken: the largest page there can be.
    predictions = drawn.invent_predictions(table, skill=0.0)
    html = render_report(folder, table, predictions)
    assert len(predictions) > 10_000 and len(html.encode()) < 6_000_000
    page = Page(html)
    rows = page.matrix()["rows"]
    assert sum(sum(row[1::2]) for row in rows) == len(predictions)
    assert sum(map(len, rows)) / 2 > 10_000
    assert sum(alt.startswith("An example of") for alt in page.values("img", "alt")) == 200


def test_report_is_written_from_the_folder_alone(
    drawn: SimpleNamespace, table: Table, tmp_path: Path
) -> None:
    folder = drawn.save_run(tmp_path / "run", table)
    first = write_report(folder)
    assert first.split is None and len(first.notes) == 2
    drawn.predict_test(folder, table)
    second = write_report(folder)
    assert second.split == "test" and second.path == folder.path / "report.html"
    assert "test images" in Page(second.path.read_text(encoding="utf-8")).text
