"""What the rows of a table say, each column in a few arrays: labels, tags, names.

A million Python objects would be copied page by page into every loader process, because reading
one changes its reference count; arrays are shared as they are.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from fieldmark.data.sampling import Indices
from fieldmark.data.table import Table
from fieldmark.errors import TableError


class Labels:
    """Labels of all rows as class indices, one row's behind the other's."""

    def __init__(self, table: Table) -> None:
        _check_labels(table)
        class_index = table.class_index
        self._indices = np.array(
            [class_index[label] for row in table.rows for label in row.labels], dtype=np.int64
        )
        self._ends = np.cumsum([len(row.labels) for row in table.rows], dtype=np.int64)
        self._is_multilabel = table.task == "multilabel"
        self._num_classes = len(table.class_names)

    def read(self, position: int) -> Tensor | int:
        """The class index, -1 without a label; multi-label: (K,) float32."""
        start = self._ends[position - 1] if position else 0
        indices = self._indices[start : self._ends[position]]
        if not self._is_multilabel:
            return int(indices[0]) if len(indices) else -1
        target = torch.zeros(self._num_classes)
        target[torch.from_numpy(indices)] = 1.0
        return target

    def take(self, positions: Indices) -> Tensor:
        """The targets of several rows: (B,) int64; multi-label: (B, K) float32."""
        if not self._is_multilabel and len(self._indices) == len(self._ends):  # one label each
            return torch.from_numpy(self._indices[positions])
        return torch.stack([torch.as_tensor(self.read(position)) for position in positions])

    def empty(self) -> Tensor:
        """The targets of no rows."""
        if self._is_multilabel:
            return torch.empty(0, self._num_classes)
        return torch.empty(0, dtype=torch.int64)


class TagNames:
    """Tags of all rows, one row's behind the other's; few different ones are many in all."""

    def __init__(self, table: Table) -> None:
        names = dict.fromkeys(tag for row in table.rows for tag in row.tags or ())
        index = {name: place for place, name in enumerate(names)}
        self._names = pack_names(list(names))
        found = (index[tag] for row in table.rows for tag in row.tags or ())
        self._indices = np.fromiter(found, dtype=np.int32)
        self._ends = np.cumsum([len(row.tags or ()) for row in table.rows], dtype=np.int64)

    def read(self, position: int) -> tuple[str, ...]:
        """The tags of a row; none where it has none."""
        start = self._ends[position - 1] if position else 0
        indices = self._indices[start : self._ends[position]]
        return tuple(self._names[int(place)].as_py() for place in indices)


def pack_names(names: list[str]) -> pa.LargeStringArray:
    """All names in one buffer. `pa.array` would do, but it imports pandas where there is one."""
    encoded = [name.encode() for name in names]
    ends = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(name) for name in encoded], out=ends[1:])
    buffers = pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))
    return pa.LargeStringArray.from_buffers(len(encoded), *buffers)


def _check_labels(table: Table) -> None:
    unknown = sorted(set(table.class_counts()) - set(table.class_names))
    if unknown:
        raise TableError(
            f"{table.source}: {len(unknown)} label(s) are none of the {len(table.class_names)} "
            f"classes: {', '.join(unknown[:10])}. Rename them, or leave those rows out"
        )
