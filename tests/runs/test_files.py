from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from fieldmark.errors import StorageError
from fieldmark.runs.files import find_folder, save_folder, save_text


def fill_with(text: str):
    def fill(part: Path) -> None:
        (part / "a.txt").write_text(text)
        (part / "b.txt").write_text(text)

    return fill


class Killed(BaseException):
    """Stands for a kill: no `except Exception` sees it."""


def test_text_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.txt"
    save_text(path, "one")
    save_text(path, "two")
    assert path.read_text() == "two"
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]


def test_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "last"
    save_folder(folder, fill_with("one"))
    save_folder(folder, fill_with("two"))
    assert {p.read_text() for p in folder.iterdir()} == {"two"}
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


@pytest.mark.parametrize("kill_at", [0, 1, 2])
def test_folder_killed_at_any_rename_leaves_a_whole_one(
    kill_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "last"
    real, calls = Path.rename, 0

    def rename(self: Path, target: Path) -> Path:
        nonlocal calls
        if calls == kill_at:
            raise Killed
        calls += 1
        return real(self, target)

    save_folder(folder, fill_with("old"))
    monkeypatch.setattr(Path, "rename", rename)
    with contextlib.suppress(Killed):
        save_folder(folder, fill_with("new"))
    monkeypatch.setattr(Path, "rename", real)
    found = find_folder(folder)
    assert found is not None
    assert {p.read_text() for p in found.iterdir()} == ({"old"} if kill_at < 2 else {"new"})
    save_folder(folder, fill_with("next"))
    assert {p.read_text() for p in folder.iterdir()} == {"next"}


def test_full_disk_keeps_the_old_folder_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "last"
    save_folder(folder, fill_with("old"))

    def fail(part: Path) -> None:
        (part / "a.txt").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"No space left on device.*--resume"):
        save_folder(folder, fail)
    assert {p.read_text() for p in folder.iterdir()} == {"old"}
    assert [p.name for p in tmp_path.iterdir()] == ["last"], "half a checkpoint keeps its room"
