"""Figures of a run are stored with what they show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from fieldmark.errors import RunChangedError
from fieldmark.runs.figures import Drawing, load_figures, save_drawings
from fieldmark.runs.folder import RunFolder


def draw(detail: str) -> Drawing:
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1])
    return Drawing("features", "resnet18.a1", detail, "A title", "A caption", figure)


def test_drawings_are_stored_as_png_and_svg_and_listed_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save_drawings(folder, [draw("layer1"), draw("layer2")])
    save_drawings(folder, [replace(draw("layer1"), caption="another")])
    entries = load_figures(folder)
    assert [entry.stem for entry in entries] == [
        "features-resnet18.a1-layer1",
        "features-resnet18.a1-layer2",
    ]
    assert entries[0].caption == "another"
    for entry in entries:
        assert (folder.figures_dir / f"{entry.stem}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (folder.figures_dir / f"{entry.stem}.svg").read_bytes()


def test_a_drawing_may_have_a_page(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save_drawings(folder, [replace(draw("map"), page="<!doctype html>"), draw("layer1")])
    assert [entry.has_page for entry in load_figures(folder)] == [True, False]
    assert (folder.figures_dir / "features-resnet18.a1-map.html").is_file()


def test_a_file_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    (entry,) = save_drawings(RunFolder(tmp_path), [draw("../../a b<script>.jpg")])
    assert entry.stem == "features-resnet18.a1-..-..-a-b-script-.jpg"
    assert (tmp_path / "figures" / f"{entry.stem}.png").is_file()


def test_a_changed_list_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "index.json").write_text("[{]")
    with pytest.raises(RunChangedError, match="fieldmark inspect"):
        load_figures(RunFolder(tmp_path))
