"""`.parquet` tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.data.sources.columns import choose_columns
from fieldmark.data.sources.options import Options
from fieldmark.data.sources.rows import Cell, Cells
from fieldmark.errors import TableError

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(path: Path, options: Options) -> Cells:
    """Read the needed columns; numbers and dates become text, nulls and NaN missing values.

    Raises `TableError` for a broken file and for columns that are no text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            chosen = choose_columns(
                names, options.columns, labelled=options.labelled, source=str(path)
            )
            wanted = {role: names[place] for role, place in chosen.items()}
            table = file.read(columns=sorted(set(wanted.values())))
        columns = {role: table.column(name) for role, name in wanted.items()}
        cells = {role: _cells(columns[role], wanted[role], path) for role in wanted}
    # Arrow's own errors; damaged pages also end in plain OSError, ValueError or KeyError.
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise TableError(f"{path} cannot be read as a parquet table: {error}") from error
    return Cells(places=range(1, table.num_rows + 1), unit="row", **cells)


def _cells(column: pa.ChunkedArray, name: str, path: Path) -> list[Cell]:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_struct(kind) or _is_bytes(kind):
        raise TableError(
            f"{path}: column '{name}' holds {kind}, not text. A dataset with the images inside "
            f"is read as hf:{path.parent}"
        )
    if _is_list(kind):
        if not _is_plain(kind.value_type):
            raise TableError(f"{path}: column '{name}' holds {kind}, not lists of text.")
        return [tuple(_text(v) for v in value or ()) for value in column.to_pylist()]
    if not _is_plain(kind):
        column = column.cast(pa.string())
    return [_text(value) for value in column.to_pylist()]


def _is_bytes(kind: pa.DataType) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_plain(kind: pa.DataType) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_null(kind)
    )


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value)
