"""Writing files so that a reader never sees half of one, and a full disk loses nothing."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fieldmark.errors import StorageError

_PREVIOUS = ".previous"


def save_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    save_bytes(path, text.encode("utf-8", "surrogateescape"))


def save_json(path: Path, value: object) -> None:
    """Write plain values as indented JSON, whole or not at all."""
    save_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def save_bytes(path: Path, content: bytes) -> None:
    """Write a file beside its final name, flush it to the disk, then rename it."""
    part = path.with_name(f".{path.name}.part")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)  # a full disk needs the room
            raise


def save_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Replace `folder` by one that `fill` wrote; killed at any moment, a whole one remains.

    Two renames cannot be one step on every file system, so between them the old content stands
    under another name; `find_folder` knows both.
    """
    part, previous = _beside(folder, ".part"), _beside(folder, _PREVIOUS)
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            fill(part)
            _flush_folder(part)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)  # a full disk needs the room
            raise
        if folder.exists():
            # A `previous` left by a kill is older than the whole folder that stands here.
            shutil.rmtree(previous, ignore_errors=True)
            folder.rename(previous)
        part.rename(folder)
        _flush(folder.parent)
        shutil.rmtree(previous, ignore_errors=True)


def find_folder(folder: Path) -> Path | None:
    """The newest whole version of a folder that `save_folder` wrote, or None."""
    for candidate in (folder, _beside(folder, _PREVIOUS)):
        if candidate.is_dir():
            return candidate
    return None


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Tell a failed write as a `StorageError` that says what is kept."""
    try:
        yield
    except OSError as error:
        free_mb = _free_mb(path)
        room = f" ({free_mb} MB free)" if free_mb is not None else ""
        raise StorageError(
            f"{path}: cannot be written: {error.strerror or error}{room}. What was saved before "
            "is untouched; make room and go on with `--resume`"
        ) from error


def render_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV text with one header line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f".{folder.name}{suffix}")


def _flush_folder(folder: Path) -> None:
    for path in folder.iterdir():
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free_mb(path: Path) -> int | None:
    existing = next((p for p in (path, *path.parents) if p.exists()), None)
    return shutil.disk_usage(existing).free // 10**6 if existing else None
