"""The figures of docs/models.md are what docs/figures/draw.py draws, and can be read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHOWN = sorted((ROOT / "docs" / "images" / "models").glob("*.svg"))
SMALLEST_TEXT_PX = 11
WIDTH_PER_SIZE = 0.56
"""Of a character, on average, in a wide sans-serif face."""

each_figure = pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All figures, drawn anew."""
    out_dir = tmp_path_factory.mktemp("figures")
    script = ROOT / "docs" / "figures" / "draw.py"
    subprocess.run(
        [sys.executable, script, "--out", out_dir],
        check=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return out_dir


@each_figure
def test_figure_says_what_the_package_computes(path: Path, drawn: Path) -> None:
    # Words and numbers, not bytes: the last bits of a float differ between machines.
    assert _read_texts(path) == _read_texts(drawn / path.name)


def test_every_figure_is_shipped(drawn: Path) -> None:
    assert sorted(path.name for path in drawn.iterdir()) == [path.name for path in SHOWN]


@each_figure
def test_text_of_a_figure_is_large_enough_and_inside(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for text in _find_texts(root):
        size, words = float(text.attrib["font-size"]), text.text or ""
        length = WIDTH_PER_SIZE * size * len(words)
        before = {"start": 0.0, "middle": 0.5, "end": 1.0}[text.attrib["text-anchor"]]
        left = float(text.attrib["x"]) - before * length
        assert size >= SMALLEST_TEXT_PX, words
        assert left >= 0 and left + length <= width, words
        assert size <= float(text.attrib["y"]) < height, words


@each_figure
def test_figure_has_colours_for_dark_pages_and_a_description(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert "@media (prefers-color-scheme: dark)" in source
    assert source.count("<desc>") == 1


def _read_texts(path: Path) -> list[str | None]:
    return [text.text for text in _find_texts(ElementTree.parse(path).getroot())]


def _find_texts(root: ElementTree.Element) -> list[ElementTree.Element]:
    return list(root.iter("{http://www.w3.org/2000/svg}text"))
