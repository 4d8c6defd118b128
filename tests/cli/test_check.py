"""`fieldmark check` as a person and a program use it."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from fieldmark.cli import main

if TYPE_CHECKING:
    from playwright.sync_api import Page

EVIL = "<script>alert('1')</script>"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        code = 0
        try:
            main(["check", *words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three pictures: one copied into both, one cut off."""
    root = tmp_path / "set"
    for number in range(6):
        place = root / ("oak", EVIL.replace("/", ""))[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((60, 40), Image.Resampling.BICUBIC)
        picture.save(place / f"{number}.png")
    evil = root / EVIL.replace("/", "")
    shutil.copy(root / "oak" / "0.png", evil / "copy.png")
    (root / "oak" / "cut.png").write_bytes((root / "oak" / "0.png").read_bytes()[:300])
    return root


def test_json_has_the_keys_that_others_rely_on(run: Run, folder: Path) -> None:
    code, out, _ = run(str(folder), "--json")
    found = json.loads(out)
    assert code == 0
    assert found["num_images"] == 8 and found["num_classes"] == 2
    assert [bad["image"] for bad in found["unreadable"]] == ["oak/cut.png"]
    assert "truncated" in found["unreadable"][0]["error"]
    (group,) = found["duplicates"]
    assert (group["kind"], group["disputed"]) == ("exact", True)
    assert {Path(image).name for image in group["images"]} == {"0.png", "copy.png"}
    assert found["leaks"] == []
    assert {(entry["label"], entry["num_images"]) for entry in found["classes"]} == {
        ("oak", 4),
        (EVIL.replace("/", ""), 4),
    }
    assert found["crops"]["advice"] in ("crop", "squash", "pad")
    assert Path(found["page"]) == Path("audit.html").absolute()


def test_a_person_reads_what_to_fix_first(run: Run, folder: Path) -> None:
    code, out, _ = run(str(folder))
    assert code == 0
    levels = [
        line.split()[0]
        for line in out.splitlines()
        if line.startswith((" fix", " look", "fix", "look"))
    ]
    assert levels[0] == "fix" and levels == sorted(levels)
    assert "1 picture (2 images) stands under more than one label" in " ".join(out.split())
    assert "audit.html" in out


def test_a_foreign_file_is_never_overwritten_and_an_older_page_is(run: Run, folder: Path) -> None:
    Path("audit.html").write_text("<p>mine</p>")
    code, _, err = run(str(folder))
    assert code == 2 and "--no-page" in err and "is no page of `fieldmark check`" in err
    assert Path("audit.html").read_text() == "<p>mine</p>"
    assert run(str(folder), "--out", "other.html")[0] == 0
    assert run(str(folder), "--out", "other.html")[0] == 0
    code, out, _ = run(str(folder), "--no-page", "--json")
    assert code == 0 and json.loads(out)["page"] is None
    assert run(str(folder), "--out", str(folder))[0] == 2


def test_names_are_text_on_the_page_and_it_loads_nothing(run: Run, folder: Path) -> None:
    run(str(folder), "--out", "page.html")
    page = Path("page.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert" in page
    assert "http://" not in page and "https://" not in page
    assert page.count("data:image/jpeg;base64,") >= 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_without_a_console_error_or_a_request(
    scheme: str, run: Run, folder: Path, open_page: Callable[..., Page]
) -> None:
    run(str(folder), "--out", "page.html")
    page = open_page(Path("page.html"), color_scheme=scheme)
    assert page.locator("#labels .group.disputed").count() == 1
    assert EVIL.replace("/", "") in page.locator("#labels").inner_text()
    widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert widths and all(widths)


def test_a_folder_that_holds_one_table_is_read_as_that_table(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "kept" / "images"
    place.mkdir(parents=True)
    rows = []
    for number in range(4):
        Image.new("RGB", (40, 40), (60 * number, 9, 9)).save(place / f"{number}.png")
        rows.append((f"images/{number}.png", ("oak", "elm")[number % 2]))
    with (tmp_path / "kept" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label"), *rows])
    code, out, _ = run(str(tmp_path / "kept"), "--json")
    found = json.loads(out)
    assert code == 0 and found["num_images"] == 4
    assert "labels.csv" in found["notes"][0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "no such file or folder"),
        (["--model", "resnet18"], "--model goes with --deep"),
        (["--task", "multiclas"], "Did you mean 'multiclass'?"),
        (["--recipe", "quik"], "Did you mean 'quick'"),
    ],
)
def test_wrong_words_are_told(run: Run, folder: Path, words: list[str], told: str) -> None:
    data = [] if words == ["nowhere"] else [str(folder)]
    code, _, err = run(*data, *words)
    assert code == 2 and told in err


def test_data_that_cannot_be_audited_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no images" in run(str(tmp_path / "empty"))[2]
    out = io.BytesIO()
    Image.new("RGB", (9, 9)).save(out, "PNG")
    (tmp_path / "one.png").write_bytes(out.getvalue())
    (tmp_path / "bare.csv").write_text("image\none.png\n")
    code, _, err = run(str(tmp_path / "bare.csv"))
    assert code == 2 and "label" in err
    (tmp_path / "single.csv").write_text("image,label\none.png,oak\n")
    code, _, err = run(str(tmp_path / "single.csv"))
    assert code == 2 and "at least 2 classes" in err


def test_all_unreadable_is_an_answer(run: Run, tmp_path: Path) -> None:
    for name in ("oak", "elm"):
        (tmp_path / "bad" / name).mkdir(parents=True)
        (tmp_path / "bad" / name / "x.jpg").write_bytes(b"no")
    code, out, _ = run(str(tmp_path / "bad"), "--json")
    found = json.loads(out)
    assert code == 0 and len(found["unreadable"]) == 2 and found["crops"] is None
