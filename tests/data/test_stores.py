from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from fieldmark.data.stores import FolderStore, MemoryStore, read_file
from fieldmark.errors import UnreadableImageError


def test_folder_store_reads_below_its_root(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"abc")
    store = pickle.loads(pickle.dumps(FolderStore(tmp_path)))
    assert store.read("a.png") == b"abc"


def test_memory_store_names_what_is_missing() -> None:
    with pytest.raises(UnreadableImageError, match=r"b\.png"):
        MemoryStore({"a.png": b"abc"}).read("b.png")


def count_descriptors() -> int:
    """Open files of this process, on systems that tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_refused_files_leave_no_descriptor_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2 * 10**9)
    before = count_descriptors()
    for name in (".", "pipe", "large", "absent", "zero\0byte"):
        with pytest.raises(UnreadableImageError):
            read_file(tmp_path / name)
    assert count_descriptors() == before
