"""Features that a frozen backbone gave, kept on the disk and mapped to memory.

A store is a folder of segments. A segment is written whole and never changed: `features.npy`,
`keys.npy` (what each row is the features of) and `about.json`. What is missing becomes a further
segment, so several runs can share a store, also at the same time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fieldmark.errors import StorageError
from fieldmark.runs.files import save_folder, save_json

FORMAT = 1
FEATURES_NAME = "features.npy"
KEYS_NAME = "keys.npy"
ABOUT_NAME = "about.json"
ABANDONED_SECONDS = 24 * 3600

Keys = NDArray[np.uint64]
Rows = NDArray[np.int64]

# NumPy has no bfloat16: its bits are kept as whole numbers.
_STORED_AS = {"fp32": "<f4", "bf16": "<u2", "fp16": "<f2"}
_COMPUTED_AS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Origin:
    """What features are features of; those of another origin are in another folder.

    network: the design, in words. weights: digest of the backbone's. transform: how images become
    tensors, in words. reads: which of the `Features` they are. precision: fp32, bf16 or fp16: in
    it they were computed and are kept, because the linear layers of a head round them to it anyway.
    shape: of one row, (D,) or (D, L).
    """

    network: str
    weights: str
    transform: str
    reads: str
    precision: str
    shape: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values for `about.json`."""
        return {**self.__dict__, "shape": list(self.shape)}

    @property
    def digest(self) -> str:
        """128 bits as hex digits."""
        text = json.dumps(self.as_json(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of features."""
        return prod(self.shape) * np.dtype(_STORED_AS[self.precision]).itemsize


def key_of(content_hash: str, view: str) -> int:
    """What the row of one view of one image is found by: 64 bits."""
    digest = hashlib.blake2b(f"{content_hash}\x1f{view}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


@dataclass
class FeatureStore:
    """The features of one origin below `root`. Rows are counted through all its segments."""

    root: Path
    origin: Origin
    _features: list[NDArray[Any]] = field(default_factory=list)
    _keys: Keys = field(default_factory=lambda: np.empty(0, np.uint64))
    _order: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def folder(self) -> Path:
        """Where this origin's segments are."""
        return self.root / self.origin.digest[:16]

    def open(self) -> list[str]:
        """Map what is there; remove segments that cannot be used, and tell each in a sentence."""
        faults = []
        self._features, keys = [], [self._keys[:0]]
        for segment in sorted(self.folder.glob("segment-*")):
            try:
                features, found = self._map(segment)
            except (OSError, ValueError, TypeError, KeyError, EOFError) as error:
                shutil.rmtree(segment, ignore_errors=True)
                faults.append(
                    f"Stored features in {segment} cannot be used ({error}): they are removed and "
                    "computed anew."
                )
            else:
                self._features.append(features)
                keys.append(found)
        self._remove_abandoned()
        every = np.concatenate(keys)
        self._order = np.argsort(every, kind="stable")
        self._keys = every[self._order]
        return faults

    def describe_others(self) -> str | None:
        """A sentence on stored features of another origin, where there are none of this one."""
        if self.folder.is_dir() or not self.root.is_dir():
            return None
        different = [found for path in self.root.iterdir() if (found := self._differences(path))]
        if not different:
            return None
        nearest = min(different, key=len)
        return (
            f"The features stored in {self.root} are of other {' and '.join(nearest)}: they are "
            "not used, and those of this run are computed."
        )

    def find(self, keys: Keys) -> Rows:
        """The row of each key (any shape), -1 where it is not stored."""
        if not len(self._keys):
            return np.full(keys.shape, -1, np.int64)
        places = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        rows = np.where(self._keys[places] == keys, self._order[places], -1)
        return rows.astype(np.int64)

    def read(self, rows: Rows) -> Tensor:
        """Features of these rows: (B, D) or (B, D, L) float32."""
        if len(self._features) == 1:
            return self._as_tensor(np.asarray(self._features[0][rows]))
        taken = np.empty((len(rows), *self.origin.shape), _STORED_AS[self.origin.precision])
        start = 0
        for features in self._features:
            is_here = (rows >= start) & (rows < start + len(features))
            taken[is_here] = features[rows[is_here] - start]
            start += len(features)
        return self._as_tensor(taken)

    def add(self, keys: Keys, blocks: Iterable[Tensor]) -> None:
        """Write one more segment: the rows of `keys`, given as blocks in the same order.

        It appears when every block is written. Raises `StorageError` where it finds no room.
        """
        self.check_room(len(keys))

        def fill(part: Path) -> None:
            try:
                self._write(part, keys, blocks)
            except OSError as error:
                raise self._no_room(len(keys), error.strerror or str(error)) from error

        save_folder(self.folder / f"segment-{uuid.uuid4().hex[:12]}", fill)
        self.open()

    def check_room(self, num_rows: int) -> None:
        """Raise `StorageError` where the disk has no room for so many rows more."""
        existing = next(path for path in (self.root, *self.root.parents) if path.exists())
        if num_rows * self.origin.row_bytes > shutil.disk_usage(existing).free:
            raise self._no_room(num_rows, "the disk is too full")

    def _write(self, part: Path, keys: Keys, blocks: Iterable[Tensor]) -> None:
        shape = (len(keys), *self.origin.shape)
        stored_as = _STORED_AS[self.origin.precision]
        # Not through mapped memory, where a full disk is no error but the end of the process.
        with (part / FEATURES_NAME).open("wb") as file:
            header = {"descr": stored_as, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for block in blocks:
                file.write(self._as_array(block).astype(stored_as, copy=False).tobytes())
        np.save(part / KEYS_NAME, keys.astype("<u8"), allow_pickle=False)
        about = {"format": FORMAT, "num_rows": len(keys), "origin": self.origin.as_json()}
        save_json(part / ABOUT_NAME, about)

    def _map(self, segment: Path) -> tuple[NDArray[Any], Keys]:
        about = _read_about(segment)
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}, expected {FORMAT}")
        if about["origin"] != self.origin.as_json():
            raise ValueError("of another origin than its folder")
        features = np.load(segment / FEATURES_NAME, mmap_mode="r", allow_pickle=False)
        keys: Keys = np.load(segment / KEYS_NAME, allow_pickle=False)
        shape = (about["num_rows"], *self.origin.shape)
        if features.shape != shape or features.dtype != _STORED_AS[self.origin.precision]:
            raise ValueError(f"{features.dtype} of {features.shape}, expected {shape}")
        if keys.shape != shape[:1] or keys.dtype != np.uint64:
            raise ValueError(f"{len(keys)} keys of {shape[0]} rows")
        return features, keys

    def _differences(self, other: Path) -> list[str]:
        """In what the origin of the store in this folder differs; empty where there is none."""
        for segment in other.glob("segment-*"):
            try:
                found: Mapping[str, Any] = _read_about(segment)["origin"]
                return [key for key, value in self.origin.as_json().items() if found[key] != value]
            except (OSError, ValueError, TypeError, KeyError):
                continue
        return []

    def _no_room(self, num_rows: int, reason: str) -> StorageError:
        needed = num_rows * self.origin.row_bytes
        existing = next(path for path in (self.root, *self.root.parents) if path.exists())
        return StorageError(
            f"{self.root}: features cannot be stored: {reason}. They need {needed:,} bytes, and "
            f"{shutil.disk_usage(existing).free:,} are free. Make room, set `cache` to a folder "
            "on another disk, or set views=0 to store none"
        )

    def _remove_abandoned(self) -> None:
        """Parts that a killed run left behind; one that is being written is younger."""
        for part in self.folder.glob(".segment-*.part"):
            changed = max(_ages(part), default=0.0)
            if time.time() - changed > ABANDONED_SECONDS:
                shutil.rmtree(part, ignore_errors=True)

    def _as_array(self, block: Tensor) -> NDArray[Any]:
        values = block.to(_COMPUTED_AS[self.origin.precision]).cpu().contiguous()
        array: NDArray[Any]
        if self.origin.precision == "bf16":
            array = values.view(torch.int16).numpy().view(np.uint16)
        else:
            array = values.numpy()
        return array

    def _as_tensor(self, taken: NDArray[Any]) -> Tensor:
        if self.origin.precision == "bf16":
            return torch.from_numpy(taken.view(np.int16)).view(torch.bfloat16).float()
        return torch.from_numpy(taken).float()


def _read_about(segment: Path) -> dict[str, Any]:
    return dict(json.loads((segment / ABOUT_NAME).read_text(encoding="utf-8")))


def _ages(part: Path) -> Iterator[float]:
    for path in (part, *part.glob("*")):
        try:
            yield path.stat().st_mtime
        except OSError:  # its run has just finished it
            yield time.time()
