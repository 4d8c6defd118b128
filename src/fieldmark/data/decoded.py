"""Images decoded once: a file of prepared pixels that later epochs read instead of decoding.

Layout: a page with the header (JSON), one record a row (height, width, checksum), then one slot of
equal size a row. Slots nobody wrote take no room where the file system knows sparse files. A row is
valid from the moment its record is written, after its pixels; so a process killed at any moment,
and any number of processes that write the same row, leave a file that can be used. What a power
cut, a failing disk or another program does to pixels shows in the checksum when they are read.

The file is read and written by plain calls instead of a memory map. On a full disk a map ends the
process (SIGBUS) where a write raises an error; and the pages of a map count as memory of each
process that touched them, which would grow with the number of images.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fieldmark.data.scan import hash_content

VERSION = 2
_PAGE = 4096
_RECORD = np.dtype([("height", "<u2"), ("width", "<u2"), ("unused", "<u4"), ("checksum", "<u8")])
_LONGEST_SIDE = 2**16 - 1
# In the header's page, where a change needs no room on the disk.
_STOPPED_AT = _PAGE - 1


@dataclass(frozen=True)
class StoredForm:
    """What is kept of an image: `name` says how it was prepared, `max_px` is the room of a slot."""

    name: str
    max_px: int


@runtime_checkable
class StagedTransform(Protocol):
    """A transform in two parts: one that is the same each time, and the random rest."""

    @property
    def __call__(self) -> Callable[..., Tensor]:
        """Both parts: image and, if random, seed -> (3, H, W) float32."""
        ...

    def least_size(self, height: int, width: int) -> tuple[int, int]:
        """The height and width at which an image of this size may be decoded."""
        ...

    def prepare(self, image: Image.Image | NDArray[np.uint8]) -> Tensor:
        """RGB image -> (3, h, w) uint8."""
        ...

    def finish(self, prepared: Iterable[tuple[Tensor, int | None]], *, at_most: int) -> Tensor:
        """Prepared images, each with its seed -> (B, 3, H, W) float32."""
        ...


def open_decoded(
    folder: Path,
    content_hashes: Mapping[str, str],
    form: StoredForm,
    say: Callable[[str], None],
) -> DecodedImages | None:
    """Open the store of these images in this form, or make it; None where that cannot be done.

    `content_hashes` maps images to the hash of their bytes: images of the same bytes share a row,
    and whichever way the same images are split, they share the file. A file that was cut short,
    damaged, or made by another version is made anew. What goes wrong is told through `say` and is
    no error: images are then decoded each time.
    """
    hashes = sorted(set(content_hashes.values()))
    layout = _Layout(form, len(hashes), hashlib.blake2b("".join(hashes).encode()).hexdigest())
    path = folder / f"{layout.key}.decoded"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fault = _find_fault(path, layout)
        if fault is not None:
            say(f"{path}: {fault}; it is made anew")
        if fault is not None or not path.exists():
            _make(path, layout)
    except OSError as error:
        say(f"{path}: {error.strerror}; images are decoded in each epoch")
        return None
    row_of = {content_hash: row for row, content_hash in enumerate(hashes)}
    rows = {image: row_of[content_hash] for image, content_hash in content_hashes.items()}
    return DecodedImages(path, layout, rows, np.array(hashes, "S"), say)


@dataclass(frozen=True)
class _Layout:
    """Where things stand in the file."""

    form: StoredForm
    num_rows: int
    content: str

    @property
    def key(self) -> str:
        text = f"{self.form.name}\x1f{self.form.max_px}\x1f{self.content}"
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    @property
    def header(self) -> dict[str, Any]:
        return {
            "what": "fieldmark decoded images",
            "version": VERSION,
            # Another decoder may give other pixels.
            "pillow": PIL.__version__,
            "torch": torch.__version__,
            "form": self.form.name,
            "max_px": self.form.max_px,
            "rows": self.num_rows,
            "content": self.content,
        }

    @property
    def first_slot(self) -> int:
        return _PAGE + -(-self.num_rows * _RECORD.itemsize // _PAGE) * _PAGE

    @property
    def slot_bytes(self) -> int:
        return 3 * self.form.max_px

    @property
    def total_bytes(self) -> int:
        return self.first_slot + self.num_rows * self.slot_bytes

    def record_at(self, row: int) -> int:
        return _PAGE + row * _RECORD.itemsize

    def slot_at(self, row: int) -> int:
        return self.first_slot + row * self.slot_bytes


def _find_fault(path: Path, layout: _Layout) -> str | None:
    """Why the file cannot be used; None where it can or where there is none."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        try:
            found = json.loads(file.read(_STOPPED_AT).rstrip(b"\0"))
        except ValueError:
            return "is damaged"
    if found != layout.header:
        return "was made by another version"
    if path.stat().st_size != layout.total_bytes:
        return "was cut short"
    return None


def _make(path: Path, layout: _Layout) -> None:
    """An empty store, put in place whole: whoever reads the old file keeps it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(json.dumps(layout.header).encode().ljust(layout.first_slot, b"\0"))
            file.truncate(layout.total_bytes)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


class DecodedImages:
    """The rows of a store. Processes may share it by fork or by pickling; each opens the file."""

    def __init__(
        self,
        path: Path,
        layout: _Layout,
        rows: Mapping[str, int],
        hashes: NDArray[np.bytes_],
        say: Callable[[str], None] | None,
    ) -> None:
        self.path = path
        self._layout = layout
        self._rows = rows
        self._hashes = hashes
        self._say = say
        self._file: FileIO | None = None
        self._owner = 0  # the process that opened it
        self._records: NDArray[np.void] = np.zeros(0, _RECORD)
        self._has_stopped = False

    def __getstate__(self) -> dict[str, Any]:
        # Only the first process speaks; a file is not passed on.
        return {**self.__dict__, "_say": None, "_file": None, "_owner": 0, "_rows": {}}

    def row_of(self, image: str) -> int:
        """The row of an image; -1 where the store has none for it."""
        return self._rows.get(image, -1)

    def read(self, row: int) -> Tensor | None:
        """The pixels of a row, (3, h, w) uint8; None where they are not stored."""
        if row < 0 or (file := self._open()) is None:
            return None
        try:
            if not self._records[row]["height"]:
                # Perhaps another process has stored it since.
                file.seek(self._layout.record_at(row))
                found = file.read(_RECORD.itemsize)
                if len(found) < _RECORD.itemsize:
                    return None
                self._records[row] = np.frombuffer(found, _RECORD)[0]
            height, width, _, checksum = self._records[row].item()
            if not height or 3 * height * width > self._layout.slot_bytes:
                return None
            pixels = _Pixels(height, width)
            file.seek(self._layout.slot_at(row))
            if file.readinto(pixels.content) != 3 * height * width:
                return None
            return pixels.picture if pixels.sum_up() == checksum else None
        except OSError:
            return None

    def write(self, row: int, data: bytes, pixels: Tensor) -> None:
        """Store (3, h, w) uint8 where it fits; after a failed write nothing more is stored.

        `data` is what was decoded: an image that is not the one of this row any more is left out.
        """
        height, width = pixels.shape[1:]
        if row < 0 or height * width > self._layout.form.max_px or self._has_stopped:
            return
        if max(height, width) > _LONGEST_SIDE or (file := self._open()) is None:
            return
        if hash_content(data).encode() != self._hashes[row]:
            return
        written = _Pixels(height, width)
        written.picture.copy_(pixels)
        record = np.array([(height, width, 0, written.sum_up())], _RECORD)
        try:
            _write_at(file, self._layout.slot_at(row), written.content)
            _write_at(file, self._layout.record_at(row), record.tobytes())
        except OSError:
            self._stop(file)

    def tell(self) -> None:
        """Say that this or another process could not go on storing, and give the room back.

        Called between epochs. A full disk needs the room for the weights that are being learned.
        """
        if self._say is None or not self._must_stop():
            return
        self._say(
            f"{self.path}: could not be written any more (is the disk full?) and is removed; "
            "training goes on, and images are decoded in each epoch"
        )
        self._say = None
        self._has_stopped = True
        self._close()
        self._owner = os.getpid()
        self.path.unlink(missing_ok=True)

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _must_stop(self) -> bool:
        """Whether any process has met a full disk."""
        file = self._open()
        if self._has_stopped or file is None:
            return self._has_stopped
        file.seek(_STOPPED_AT)
        return file.read(1) == b"\1"

    def _stop(self, file: FileIO) -> None:
        self._has_stopped = True
        with contextlib.suppress(OSError):
            _write_at(file, _STOPPED_AT, b"\1")

    def _open(self) -> FileIO | None:
        """The file, opened by this very process: a position is shared by forked ones."""
        if self._owner != os.getpid():
            self._close()
            self._owner = os.getpid()
            try:
                self._file = FileIO(self.path, "r+")
                self._records = _read_records(self._file, self._layout)
            except OSError:
                self._close()
        return self._file


def _read_records(file: FileIO, layout: _Layout) -> NDArray[np.void]:
    records = np.zeros(layout.num_rows, _RECORD)
    file.seek(_PAGE)
    file.readinto(records.view(np.uint8).data)
    return records


class _Pixels:
    """Room for the pixels of one image, and zeros up to a whole number of words of 8 bytes.

    picture: (3, h, w) uint8 in the memory order (h, w, 3). content: its bytes in that order.
    """

    def __init__(self, height: int, width: int) -> None:
        num_bytes = 3 * height * width
        self._words = np.empty(-(-num_bytes // 8), "<u8")
        self._words[-1:] = 0
        pixels = self._words.view(np.uint8)[:num_bytes]
        self.content = pixels.data
        self.picture = torch.from_numpy(pixels).view(height, width, 3).permute(2, 0, 1)

    def sum_up(self) -> int:
        """The sum of all words, modulo 2^64: a tenth of the time of a CRC."""
        return int(np.add.reduce(self._words))


def _write_at(file: FileIO, place: int, content: bytes | memoryview) -> None:
    file.seek(place)
    if file.write(content) != len(content):
        raise OSError(28, os.strerror(28))


@dataclass(frozen=True)
class DecodedTransform:
    """A transform whose prepared images are kept in, and taken from, a store."""

    transform: StagedTransform
    images: DecodedImages

    def __call__(self, image: Image.Image | NDArray[np.uint8], *seed: int) -> Tensor:
        """Transform one image that is in no store."""
        return self.transform(image, *seed)
