"""Where the bytes of an image come from: one small protocol, whatever the source."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fieldmark.errors import UnreadableImageError

MAX_FILE_BYTES = 100 * 2**20


class ImageStore(Protocol):
    """Gives the encoded bytes of an image by its key. Must survive pickling (loader workers)."""

    def read(self, key: str) -> bytes:
        """Return the encoded image; raise `UnreadableImageError` if there is none."""
        ...


@dataclass(frozen=True)
class FolderStore:
    """Image files below `root`; keys are paths relative to it, or absolute ones."""

    root: Path

    def read(self, key: str) -> bytes:
        """Read one regular file of at most 100 MiB."""
        return read_file(self.root / key)


@dataclass(frozen=True)
class MemoryStore:
    """Encoded images kept in memory, for drawn samples and small sets."""

    images: dict[str, bytes]

    def read(self, key: str) -> bytes:
        """Return the bytes stored under `key`."""
        try:
            return self.images[key]
        except KeyError:
            raise UnreadableImageError(f"{key}: no such image in this set") from None


def read_file(path: Path) -> bytes:
    """Read a regular file of at most 100 MiB; never waits on a pipe or device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableImageError(f"{path}: cannot be opened: {reason}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImageError(f"{path}: is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise UnreadableImageError(
                f"{path}: {status.st_size / 2**20:.0f} MiB is more than the "
                f"{MAX_FILE_BYTES // 2**20} MiB that one image may have"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise UnreadableImageError(f"{path}: cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def without_place(reason: str, image: str) -> str:
    """The reason alone: stores put the place in front, which a list of images names itself."""
    return reason.rpartition(f"{image}: ")[2]
