"""Hugging Face datasets: local folders of any of their forms, and the Hub by name."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldmark.data.sources.columns import check_roles
from fieldmark.data.sources.faults import Faults, quoted, show
from fieldmark.data.sources.huggingface_columns import (
    choose_hf_columns,
    read_cells,
    without_unlabelled,
)
from fieldmark.data.sources.labels import with_classes
from fieldmark.data.sources.options import Options
from fieldmark.data.sources.paths import ImagePaths, is_file, is_folder
from fieldmark.data.sources.rows import SPLIT_NAMES, UNSAFE, build_rows
from fieldmark.data.stores import read_file
from fieldmark.data.table import Table
from fieldmark.errors import TableError, UnreadableImageError, UnsafePathError

HUB_TIMEOUT_SECONDS = 5
_HUB_NAME = re.compile(r"[\w.\-]+(/[\w.\-]+)?")
_BATCH_SIZE = 1000


@dataclass(frozen=True)
class HfStore:
    """Encoded images of a dataset, by keys like `train/17`.

    `splits` holds datasets with the one column `column`, which gives bytes or a path and is
    never decoded by `datasets`. Relative paths start from `root`.
    """

    splits: Mapping[str, Any]
    column: str
    root: Path

    def read(self, key: str) -> bytes:
        """Return the image as it is stored."""
        split, _, index = key.rpartition("/")
        try:
            value = self.splits[split][int(index)][self.column]
        except (KeyError, IndexError, ValueError):
            raise UnreadableImageError(f"{key}: no such image in this set") from None
        if value is None or (value["bytes"] is None and value["path"] is None):
            raise UnreadableImageError(f"{key}: no image in this row")
        if value["bytes"] is not None:
            return bytes(value["bytes"])
        return read_file(self.root / value["path"])


def read_huggingface(name: str, options: Options) -> Table:
    """Read a local dataset folder if `name` is one, else the dataset of that name on the Hub.

    No code of a dataset is ever run. Raises `TableError`, and `UnsafePathError` for images
    that are stored as paths to elsewhere.
    """
    source = f"hf:{name}"
    check_roles(options.columns)
    datasets = _import_datasets(source)
    is_local = is_folder(Path(name))
    loaded = _load_local(datasets, Path(name)) if is_local else _load_hub(datasets, name)
    splits, notes = _splits(datasets, loaded, source)
    columns = choose_hf_columns(datasets, splits, options, source)
    images = {
        split: dataset.select_columns([columns["image"]]).cast_column(
            columns["image"], datasets.Image(decode=False)
        )
        for split, dataset in splits.items()
    }
    root = Path(name if is_local else datasets.config.HF_CACHE_HOME).resolve()
    if not options.allow_outside:
        _check_paths(images, columns["image"], root, source)
    cells, order = read_cells(datasets, splits, columns)
    if options.labelled:
        cells, dropped = without_unlabelled(cells, options)
        notes += dropped
    rows, row_notes = build_rows(cells, options, source=source, locate=str)
    store = HfStore(images, columns["image"], root)
    table = Table(
        rows,
        store,
        source=source,
        notes=(*notes, *row_notes),
    )
    return with_classes(table, options, order)


def _import_datasets(source: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise TableError(
            f"{source} needs the package 'datasets'. Install it with: pip install 'fieldmark[hf]'"
        ) from error
    return datasets


def _load_local(datasets: Any, path: Path) -> Any:
    is_saved = any(is_file(path / name) for name in ("state.json", "dataset_dict.json"))
    load = datasets.load_from_disk if is_saved else datasets.load_dataset
    try:
        return load(str(path))
    except _load_errors(datasets) as error:
        raise TableError(
            f"hf:{path} cannot be read as a Hugging Face dataset: {_first_line(error)}. It may "
            "be a folder written by save_to_disk(), or one with parquet files or images."
        ) from error


def _load_hub(datasets: Any, name: str) -> Any:
    if not _HUB_NAME.fullmatch(name):
        raise TableError(
            f"hf:{name}: there is no such folder, and a dataset on the Hub is named owner/name."
        )
    if not datasets.config.HF_HUB_OFFLINE and not _hub_answers():
        raise TableError(
            f"hf:{name}: there is no such folder, and the Hugging Face Hub cannot be reached "
            "(offline?). If the dataset was loaded on this machine before, set HF_HUB_OFFLINE=1 "
            f"to use that copy; otherwise fetch it where there is a network: hf download {name} "
            "--repo-type dataset --local-dir DIR, and use hf:DIR here."
        )
    try:
        return datasets.load_dataset(name)
    except _load_errors(datasets) as error:
        offline = " (HF_HUB_OFFLINE is set)" if datasets.config.HF_HUB_OFFLINE else ""
        raise TableError(
            f"hf:{name} cannot be loaded from the Hugging Face Hub{offline}: {_first_line(error)}"
        ) from error


def _hub_answers() -> bool:
    """Ask the Hub once: `datasets` itself would go on retrying for half a minute."""
    from huggingface_hub.constants import ENDPOINT

    request = urllib.request.Request(ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=HUB_TIMEOUT_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _load_errors(datasets: Any) -> tuple[type[Exception], ...]:
    """What `datasets` raises for folders and repositories that are not (sound) datasets.

    It validates little itself, so broken files end in Python's and Arrow's own errors.
    """
    import pyarrow as pa

    return (
        datasets.exceptions.DatasetsError,
        pa.ArrowException,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _splits(datasets: Any, loaded: Any, source: str) -> tuple[dict[str, Any], list[str]]:
    """Return our split name -> dataset; the name is empty if the data is in one piece."""
    if isinstance(loaded, datasets.Dataset):
        return {"": loaded}, []
    if not loaded:
        raise TableError(f"{source} holds no data.")
    if len(loaded) == 1 and SPLIT_NAMES.get(next(iter(loaded))) in (None, "train"):
        return {"": next(iter(loaded.values()))}, []
    known: dict[str, Any] = {}
    for name, dataset in loaded.items():
        split = SPLIT_NAMES.get(name.lower())
        if split in known:
            raise TableError(f"{source} has several splits that mean '{split}': {quoted(loaded)}")
        if split:
            known[split] = dataset
    others = [name for name in loaded if name.lower() not in SPLIT_NAMES]
    if not known:
        raise TableError(
            f"{source} has the splits {quoted(others)}, none of which is train, validation or test."
        )
    notes = [f"Splits left out, as they are not train, val or test: {quoted(others)}."]
    return known, notes if others else []


def _check_paths(images: Mapping[str, Any], column: str, root: Path, source: str) -> None:
    """Refuse images that are stored as paths to outside of the dataset (or the cache)."""
    import pyarrow.compute as pc

    paths = ImagePaths(root)
    faults = Faults(source, "row")
    for dataset in images.values():
        first = 1
        for batch in dataset.with_format("arrow").iter(batch_size=_BATCH_SIZE):
            values = batch.column(column)
            is_path = pc.is_null(pc.struct_field(values, "bytes")).to_pylist()
            texts = pc.struct_field(values, "path").to_pylist() if any(is_path) else ()
            for place, text in enumerate(texts):
                if is_path[place] and text is not None:
                    try:
                        paths.key(text)
                    except UnsafePathError as error:
                        faults.add(UNSAFE, first + place, f"{show(text)} {error}")
            first += len(is_path)
    faults.raise_all()
