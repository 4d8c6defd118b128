"""Path safety: an image path in a user's table may not lead out of the image folder.

Containment is decided on the text of a path wherever that is enough. Links are the exception:
each folder is listed once, which tells its links and its files without a call per image, and
only links are resolved.
"""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fieldmark.errors import UnsafePathError

INVISIBLE = " \t\r\n\v\f\xa0\ufeff"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://|(file|data|https?|ftp|s3|gs|hf):", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class ImagePaths:
    """Turns the image paths of a table into keys below `root`, and refuses those that leave it."""

    def __init__(self, root: Path, *, allow_outside: bool = False) -> None:
        self.root = root.resolve()
        self._real_root = str(self.root)
        self._given_root = posixpath.normpath(root.absolute().as_posix())
        self._allow_outside = allow_outside
        self._folders: dict[str, _Folder] = {}

    def key(self, text: str) -> str:
        """Return the path of an image relative to the root, with '/' between its parts.

        Where no file has exactly this name, the same path without blanks around it, with
        backslashes read as separators, or in the other Unicode form is taken if that exists.
        A path without a file is not an error. Raises `UnsafePathError`, whose text is the bare
        reason, for URLs and for what leads out of the root.
        """
        key = ""
        for spelling in _spellings(text):
            key = self._contained(spelling)
            if self.exists(key):
                self._refuse_leaving_link(key)
                return key
        return key

    def exists(self, key: str) -> bool:
        """Tell whether there is a file (or anything else) at a key given by `key()`."""
        parent, name = posixpath.split(key)
        folder = self._folder(parent)
        if name in folder.links:
            return True
        return _folded(name) in folder.folded_names and os.path.lexists(self.root / key)

    def _contained(self, spelling: str) -> str:
        """Return the normalised path; judge it by its text alone."""
        if "\0" in spelling:
            raise UnsafePathError("holds a NUL character")
        if ":" in spelling and _URL.match(spelling):
            raise UnsafePathError("is a URL; images must be local files")
        if os.sep == "\\":
            spelling = spelling.replace("\\", "/")
        key = posixpath.normpath(spelling)
        if key.startswith(("/", "\\\\")) or _DRIVE.match(key):
            below = self._below_root(key)
            if below is None and not self._allow_outside:
                raise UnsafePathError("is an absolute path outside the image folder")
            return key if below is None else below
        if (key == ".." or key.startswith("../")) and not self._allow_outside:
            raise UnsafePathError("leaves the image folder")
        return key

    def _below_root(self, absolute: str) -> str | None:
        for root in (self.root.as_posix(), self._given_root):
            prefix = root.rstrip("/") + "/"
            if absolute.startswith(prefix):
                return absolute[len(prefix) :]
        return None

    def _refuse_leaving_link(self, key: str) -> None:
        if self._allow_outside:
            return
        parent, name = posixpath.split(key)
        folder = self._folder(parent)
        if not folder.is_inside:
            raise UnsafePathError("lies behind a link that leaves the image folder")
        path = self.root / key
        is_link = folder.links[name] if name in folder.links else path.is_symlink()
        if is_link and not is_within(os.path.realpath(path), self._real_root):
            raise UnsafePathError("is a link that leaves the image folder")

    def _folder(self, parent: str) -> _Folder:
        folder = self._folders.get(parent)
        if folder is None:
            folder = self._folders[parent] = self._list(parent)
        return folder

    def _list(self, parent: str) -> _Folder:
        path = self.root / parent
        is_inside = is_within(os.path.realpath(path), self._real_root)
        try:
            with os.scandir(path) as entries:
                links = {entry.name: entry.is_symlink() for entry in entries}
        except (OSError, ValueError):
            links = {}
        return _Folder(is_inside, links, frozenset(map(_folded, links)))


@dataclass(frozen=True)
class _Folder:
    """`links`: name -> whether it is a symbolic link, for everything in the folder.

    `folded_names` are for file systems that also find a file under other spellings of its name.
    """

    is_inside: bool
    links: dict[str, bool]
    folded_names: frozenset[str]


def _spellings(text: str) -> Iterator[str]:
    """Give the path as written, then the ways in which it may have been meant.

    The forms come from spreadsheets (blanks, byte order marks), Windows (backslashes) and macOS
    (decomposed letters).
    """
    yield text
    bare = text.strip(INVISIBLE)
    if bare != text:
        yield bare
    slashed = bare.replace("\\", "/")
    if not slashed.isascii():
        for form in ("NFD", "NFC"):
            yield unicodedata.normalize(form, slashed)
    if slashed != bare or not slashed.isascii():
        yield slashed


def _folded(name: str) -> str:
    return (name if name.isascii() else unicodedata.normalize("NFC", name)).casefold()


def is_folder(path: Path) -> bool:
    """Like `Path.is_dir`, but False for every path that the system cannot look at."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def list_folder(path: Path) -> list[Path]:
    """Return what a folder holds; nothing if it cannot be looked into."""
    try:
        return list(path.iterdir())
    except OSError:
        return []


def is_file(path: Path) -> bool:
    """Like `Path.is_file`, but False for every path that the system cannot look at."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_within(path: str, root: str) -> bool:
    """Tell whether a resolved path is the resolved folder `root` or lies below it."""
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)
