"""Folders of images: a sub-folder per class, or `train/ val/ test/` with these inside."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fieldmark.data.sources.faults import count, quoted
from fieldmark.data.sources.labels import clean_name, merged_note, with_classes
from fieldmark.data.sources.options import Options
from fieldmark.data.sources.paths import is_within
from fieldmark.data.sources.rows import SPLIT_NAMES
from fieldmark.data.stores import FolderStore
from fieldmark.data.table import Row, Table
from fieldmark.errors import UnsafePathError

IMAGE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp"}
    | {".tif", ".tiff", ".avif", ".avifs", ".ppm", ".pgm", ".pbm", ".pnm"}
)
_SYSTEM_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin"})


def read_folder(root: Path, options: Options) -> Table:
    """Read the images of a folder, their labels from the sub-folders unless unlabelled.

    Images are found at any depth below a class folder. Files that cannot be used are left out
    with a note. Raises `TableError`, and `UnsafePathError` for links that leave the folder.
    """
    walk = _Walk(root.resolve(), options.allow_outside)
    groups = _class_folders(walk) if options.labelled else [_Group("")]
    found = _images_of(groups, walk)
    walk.refuse_leaving_links(str(root))
    rows = tuple(
        Row(key, (clean_name(group.label),) if group.label else (), split=group.split)
        for group, keys in zip(groups, found, strict=True)
        for key in keys
    )
    notes = (*walk.notes(), *_class_notes(groups, found))
    table = Table(rows, FolderStore(walk.root), source=str(root), notes=notes)
    return with_classes(table, options)


@dataclass(frozen=True)
class _Group:
    """A folder (relative to the root) whose images share a label and a split."""

    folder: str
    label: str = ""
    split: str | None = None


def _class_folders(walk: _Walk) -> list[_Group]:
    top = walk.sub_folders("")
    split_folders = _split_folders(top, walk)
    walk.leave_out("Images outside of any class folder", walk.images(""))
    if not split_folders:
        return [_Group(name, label=name) for name in top]
    walk.leave_out(
        "Folders beside train, val and test", (name for name in top if name not in split_folders)
    )
    return [
        _Group(f"{folder}/{name}", label=name, split=SPLIT_NAMES[folder.lower()])
        for folder in split_folders
        for name in walk.sub_folders(folder)
    ]


def _split_folders(top: Sequence[str], walk: _Walk) -> list[str]:
    """Return the folders that are splits and not classes that happen to be called "train".

    A split holds class folders and no images. Without a train folder, other names beside the
    splits mean that all of them are classes.
    """
    named = [name for name in top if name.lower() in SPLIT_NAMES]
    splits = [name for name in named if walk.sub_folders(name) and not walk.images(name)]
    has_train = any(name.lower() == "train" for name in splits)
    return splits if has_train or len(splits) == len(top) else []


def _images_of(groups: Sequence[_Group], walk: _Walk) -> list[list[str]]:
    """Return the images of each group; folders behind links come after all real folders.

    So a folder that is reachable both ways is read under its real name, and once.
    """
    found: list[list[str]] = []
    linked: list[tuple[str, int]] = []
    for number, group in enumerate(groups):
        is_link = group.folder and (walk.root / group.folder).is_symlink()
        images, links = ([], [group.folder]) if is_link else walk.collect(group.folder)
        found.append(images)
        linked += [(folder, number) for folder in links]
    for folder, number in linked:
        images, links = walk.collect(folder)
        found[number] = sorted(found[number] + images)
        linked += [(link, number) for link in links]
    return found


def _class_notes(groups: Sequence[_Group], found: Sequence[Sequence[str]]) -> list[str]:
    labels = {group.label for group, images in zip(groups, found, strict=True) if images}
    empty = sorted({group.label for group in groups} - labels - {""})
    notes = merged_note((label, clean_name(label)) for label in sorted(labels))
    if empty:
        notes.append(f"Class folders without images: {len(empty):,} ({quoted(empty)}).")
    splits: dict[str, set[str]] = {}
    for group in groups:
        if group.split:
            splits.setdefault(group.split, set()).add(group.folder.split("/")[0])
    notes += [
        f"{quoted(sorted(folders))} were read as one split, {split}."
        for split, folders in splits.items()
        if len(folders) > 1
    ]
    return notes


@dataclass
class _Walk:
    """Walks below `root`, a resolved path, and remembers what it left out and why.

    Paths are relative to the root, with '/' between folders.
    """

    root: Path
    allow_outside: bool
    left_out: dict[str, set[str]] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    visited: set[tuple[int, int]] = field(default_factory=set)

    def sub_folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder, links to folders among them."""
        return [name for name, kind in self._entries(folder) if kind != "image"]

    def images(self, folder: str) -> list[str]:
        """Names of the image files in a folder."""
        return [name for name, kind in self._entries(folder) if kind == "image"]

    def collect(self, folder: str) -> tuple[list[str], list[str]]:
        """Return the images at any depth below a folder, and the linked folders met."""
        images: list[str] = []
        links: list[str] = []
        pending = [folder]
        while pending:
            folder = pending.pop()
            if not self._visit(folder):
                continue
            for name, kind in self._entries(folder):
                key = f"{folder}/{name}" if folder else name
                {"image": images, "link": links, "folder": pending}[kind].append(key)
        return sorted(images), sorted(links)

    def leave_out(self, reason: str, keys: Iterator[str] | Sequence[str]) -> None:
        """Remember what was not taken, for the notes."""
        self.left_out.setdefault(reason, set()).update(keys)

    def refuse_leaving_links(self, source: str) -> None:
        """Raise `UnsafePathError` if links were met that leave the root."""
        if self.leaving:
            raise UnsafePathError(
                f"{source}: {count(len(self.leaving), 'link')} out of the folder: "
                f"{quoted(sorted(self.leaving))}. If you trust what is there, --allow-outside "
                "follows them; otherwise remove them."
            )

    def notes(self) -> list[str]:
        """One sentence for each reason why something was left out."""
        notes = []
        for reason, keys in sorted(self.left_out.items()):
            if not keys:
                continue
            if reason == _OTHER_ENDING:
                endings = Counter(_ending(key) or "none" for key in keys)
                ordered = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
                told = ", ".join(f"{ending} {number:,}" for ending, number in ordered)
            else:
                told = quoted(sorted(keys))
            notes.append(f"{reason}, left out: {len(keys):,} ({told}).")
        return notes

    def _visit(self, folder: str) -> bool:
        """Tell whether a folder is met for the first time, whatever path leads to it."""
        try:
            status = (self.root / folder).stat()
        except OSError:
            self.leave_out("Folders that cannot be opened", [folder])
            return False
        identity = (status.st_dev, status.st_ino)
        if identity in self.visited:
            self.leave_out("Links to folders that are read under another name", [folder])
            return False
        self.visited.add(identity)
        return True

    def _entries(self, folder: str) -> list[tuple[str, str]]:
        """Return (name, "image" | "folder" | "link" to a folder) of what a folder holds."""
        try:
            with os.scandir(self.root / folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            self.leave_out("Folders that cannot be opened", [folder])
            return []
        kinds = ((entry.name, self._kind(entry, folder)) for entry in entries)
        return [(name, kind) for name, kind in kinds if kind]

    def _kind(self, entry: os.DirEntry[str], folder: str) -> str:
        key = f"{folder}/{entry.name}" if folder else entry.name
        if _is_hidden(entry.name):
            self.leave_out("Hidden and system files", [key])
            return ""
        if not _is_utf8(entry.name):
            self.leave_out("Files and folders whose name is not UTF-8", [key])
            return ""
        if entry.is_symlink():
            return self._kind_of_link(entry, key)
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return self._kind_of_file(key, is_regular=entry.is_file(follow_symlinks=False))

    def _kind_of_link(self, entry: os.DirEntry[str], key: str) -> str:
        target = os.path.realpath(entry.path)
        try:
            mode = Path(target).stat().st_mode
        except OSError:
            self.leave_out("Links that lead nowhere", [key])
            return ""
        if stat.S_ISDIR(mode) and is_within(os.path.realpath(Path(entry.path).parent), target):
            self.leave_out("Links to folders that are read under another name", [key])
            return ""
        kind = "link" if stat.S_ISDIR(mode) else self._kind_of_file(key, stat.S_ISREG(mode))
        if kind and not self.allow_outside and not is_within(target, str(self.root)):
            self.leaving.add(key)
            return ""
        return kind

    def _kind_of_file(self, key: str, is_regular: bool) -> str:
        if _ending(key) not in IMAGE_ENDINGS:
            self.leave_out(_OTHER_ENDING, [key])
            return ""
        if not is_regular:
            self.leave_out("Pipes, sockets and devices", [key])
            return ""
        return "image"


_OTHER_ENDING = "Files without the ending of an image"


def _ending(key: str) -> str:
    """Return what follows the last dot of a name, with the dot, in lower case."""
    stem, _, ending = key.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if stem else ""


def _is_hidden(name: str) -> bool:
    """Tell whether tools hide this name; a second dot means that a person chose it."""
    return (name.startswith(".") and not name.startswith("..")) or name.lower() in _SYSTEM_NAMES


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
