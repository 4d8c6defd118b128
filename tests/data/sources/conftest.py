"""Small sources on disk. Reading a table opens no image, so a byte stands for one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

MakeImages = Callable[..., Path]
WriteTable = Callable[..., Path]


@pytest.fixture
def make_images(tmp_path: Path) -> MakeImages:
    """Return a function that creates files below a folder and returns the folder."""

    def make(names: Iterable[str], folder: str = "") -> Path:
        for name in names:
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return tmp_path / folder

    return make


@pytest.fixture
def write_table(tmp_path: Path, make_images: MakeImages) -> WriteTable:
    """Return a function that writes a table file, beside images a.jpg to d.jpg."""

    def write(content: str | bytes, name: str = "table.csv") -> Path:
        make_images(["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture(scope="session")
def hostile(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of hostile names, links and file-system objects, and a table of such paths."""
    folder = tmp_path_factory.mktemp("hostile")
    script = shared / "badimages" / "make_hostile_fs.py"
    subprocess.run(
        [sys.executable, "-W", "ignore", script, folder], check=True, stdout=subprocess.DEVNULL
    )
    return folder
