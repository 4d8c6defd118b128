from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fieldmark.errors import RunChangedError, StorageError
from fieldmark.runs.teacher_answers import Origin, load_teacher_answers, save_teacher_answers

ORIGIN = Origin("runs/teacher", "plain", "digest", ("a", "b", "c"))
LOGITS = np.arange(15, dtype=np.float32).reshape(5, 3)


def save(folder: Path) -> None:
    save_teacher_answers(folder, ORIGIN, num_images=5, blocks=(LOGITS[:2], LOGITS[2:]))


def test_answers_come_back_row_by_row(tmp_path: Path) -> None:
    save(tmp_path / "teacher")
    found = load_teacher_answers(tmp_path / "teacher", ORIGIN, num_images=5)
    assert isinstance(found, np.memmap)
    assert np.array_equal(found, LOGITS)


def test_answers_that_are_not_there_are_none(tmp_path: Path) -> None:
    assert load_teacher_answers(tmp_path / "teacher", ORIGIN, num_images=5) is None


@pytest.mark.parametrize(
    "change",
    [{"teacher": "x"}, {"view": "same"}, {"images": "x"}, {"class_names": ("b", "a", "c")}],
    ids=lambda change: next(iter(change)),
)
def test_answers_to_something_else_are_refused(change: dict[str, object], tmp_path: Path) -> None:
    save(tmp_path / "teacher")
    other = replace(ORIGIN, **change)  # type: ignore[arg-type]
    with pytest.raises(RunChangedError, match=f"other {next(iter(change))} than this run"):
        load_teacher_answers(tmp_path / "teacher", other, num_images=5)


def test_answers_of_another_number_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "teacher")
    with pytest.raises(RunChangedError, match=r"shape \(5, 3\), expected float32 of \(6, 3\)"):
        load_teacher_answers(tmp_path / "teacher", ORIGIN, num_images=6)


@pytest.mark.parametrize("name", ["logits.npy", "origin.json"])
def test_broken_files_are_told(name: str, tmp_path: Path) -> None:
    save(tmp_path / "teacher")
    (tmp_path / "teacher" / name).write_bytes(b"half")
    with pytest.raises(RunChangedError, match="cannot be read"):
        load_teacher_answers(tmp_path / "teacher", ORIGIN, num_images=5)


def test_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    def blocks() -> Iterator[NDArray[np.float32]]:
        yield LOGITS[:2]
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space left on device"):
        save_teacher_answers(tmp_path / "teacher", ORIGIN, num_images=5, blocks=blocks())
    assert list(tmp_path.iterdir()) == []
