from __future__ import annotations

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


def test_folder_killed_at_any_rename_leaves_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "last"
    real = Path.rename
    for kill_at in range(3):
        save_folder(folder, fill_with("old"))
        calls = 0

        def rename(self: Path, target: Path) -> Path:
            nonlocal calls
            if calls == kill_at:
                raise Killed
            calls += 1
            return real(self, target)

        monkeypatch.setattr(Path, "rename", rename)
        try:
            save_folder(folder, fill_with("new"))
        except Killed:
            pass
        monkeypatch.setattr(Path, "rename", real)
        found = find_folder(folder)
        assert found is not None
        texts = {p.read_text() for p in found.iterdir()}
        assert texts == ({"old"} if kill_at < 2 else {"new"})
        save_folder(folder, fill_with("next"))
        assert {p.read_text() for p in folder.iterdir()} == {"next"}


def test_full_disk_keeps_the_old_folder_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "last"
    save_folder(folder, fill_with("old"))

    def fail(part: Path) -> None:
        (part / "a.txt").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space left on device.*--resume"):
        save_folder(folder, fail)
    assert {p.read_text() for p in folder.iterdir()} == {"old"}
