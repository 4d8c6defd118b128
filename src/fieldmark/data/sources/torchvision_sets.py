"""Datasets that torchvision reads, from files that are already on this machine.

Nothing is downloaded here. CIFAR and its like come as Python pickles, which could run code:
torchvision loads them only after their MD5 sum was found equal to the published one, so no
other file gets that far.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldmark.data.sources.faults import quoted
from fieldmark.data.sources.labels import with_classes
from fieldmark.data.sources.options import Options
from fieldmark.data.sources.rows import Cells, build_rows
from fieldmark.data.stores import FolderStore, ImageStore
from fieldmark.data.table import Table
from fieldmark.errors import TableError, UnreadableImageError, nearest

_Arguments = Mapping[str, Any]
_FLAG: Mapping[str, _Arguments] = {"train": {"train": True}, "test": {"train": False}}


def _named(**splits: str) -> Mapping[str, _Arguments]:
    return {ours: {"split": theirs} for ours, theirs in splits.items()}


@dataclass(frozen=True)
class _Set:
    """How torchvision's class is called for each split, and where it keeps its images.

    `files` is "loader" where the class takes a function that opens an image file, the names of
    its attributes with paths and labels where it does not, and None for pictures in one array.
    """

    splits: Mapping[str, _Arguments]
    files: str | tuple[str, str] | None = None


_TRAIN_TEST = _named(train="train", test="test")
_TRAIN_VAL_TEST = _named(train="train", val="val", test="test")

SETS: Mapping[str, _Set] = {
    "CIFAR10": _Set(_FLAG),
    "CIFAR100": _Set(_FLAG),
    "Country211": _Set(_named(train="train", val="valid", test="test"), "loader"),
    "DTD": _Set(_TRAIN_VAL_TEST, "loader"),
    "EuroSAT": _Set({"": {}}, "loader"),
    "FGVCAircraft": _Set(_TRAIN_VAL_TEST, "loader"),
    "FashionMNIST": _Set(_FLAG),
    "Flowers102": _Set(_TRAIN_VAL_TEST, "loader"),
    "Food101": _Set(_TRAIN_TEST, "loader"),
    "GTSRB": _Set(_TRAIN_TEST, ("_samples", "_samples")),
    "Imagenette": _Set(_named(train="train", val="val"), "loader"),
    "KMNIST": _Set(_FLAG),
    "MNIST": _Set(_FLAG),
    "OxfordIIITPet": _Set(_named(train="trainval", test="test"), ("_images", "_labels")),
    "QMNIST": _Set(_FLAG),
    "RenderedSST2": _Set(_TRAIN_VAL_TEST, "loader"),
    "STL10": _Set(_TRAIN_TEST),
    "SVHN": _Set(_TRAIN_TEST),
    "StanfordCars": _Set(_TRAIN_TEST, "loader"),
    "USPS": _Set(_FLAG),
}


@dataclass(frozen=True)
class ArrayStore:
    """Pictures that a dataset keeps as arrays, given as PNG; keys are like `train/17`."""

    splits: Mapping[str, Any]

    def read(self, key: str) -> bytes:
        """Return one picture as PNG, without loss."""
        split, _, index = key.rpartition("/")
        try:
            image, _ = self.splits[split][int(index)]
        except (KeyError, IndexError, ValueError):
            raise UnreadableImageError(f"{key}: no such image in this set") from None
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=1)
        return file.getvalue()


def read_torchvision(name: str, options: Options) -> Table:
    """Read a torchvision dataset from `options.image_root`, or from `./data`.

    Its own splits are kept and its classes keep its order. Raises `TableError` for unknown
    names and where the files are not complete.
    """
    if name not in SETS:
        raise TableError(
            f"torchvision:{name}: no such dataset here; there are {', '.join(SETS)}.{_hint(name)}"
        )
    root = (options.image_root or Path("data")).resolve()
    splits = {split: _open(name, split, root) for split in SETS[name].splits}
    samples = [
        (key, label, split)
        for split, dataset in splits.items()
        for key, label in _samples(dataset, split, SETS[name], root)
    ]
    class_names = _class_names(next(iter(splits.values())), samples)
    cells = Cells(
        image=[key for key, _, _ in samples],
        label=[class_names[label] for _, label, _ in samples],
        split=[split for _, _, split in samples],
        places=range(1, len(samples) + 1),
        unit="row",
    )
    source = f"torchvision:{name}"
    rows, notes = build_rows(cells, options, source=source, locate=str)
    is_array = SETS[name].files is None
    store: ImageStore = ArrayStore(splits) if is_array else FolderStore(root)
    table = Table(rows, store, source=source, notes=notes)
    return with_classes(table, options, order=class_names)


def _hint(name: str) -> str:
    by_lowered = {other.lower(): other for other in SETS}
    close = nearest(name.lower(), by_lowered)
    return f" Did you mean '{by_lowered[close[0]]}'?" if close else ""


def _open(name: str, split: str, root: Path) -> Any:
    import torchvision

    found = SETS[name]
    arguments = dict(found.splits[split])
    if found.files == "loader":
        arguments["loader"] = str
    try:
        return getattr(torchvision.datasets, name)(root, download=False, **arguments)
    except ModuleNotFoundError as error:
        raise TableError(f"torchvision:{name} needs the package {error.name}") from error
    # What torchvision raises for files that are absent, incomplete or damaged.
    except (RuntimeError, OSError, ValueError, LookupError, AssertionError, EOFError) as error:
        keywords = "".join(f"{key}={value!r}, " for key, value in found.splits[split].items())
        raise TableError(
            f"torchvision:{name}: its files are not complete in {root}. --image-root names the "
            "folder that holds them. fieldmark does not download on its own; this does: python "
            f"-c \"import torchvision.datasets as d; d.{name}('{root}', {keywords}"
            f'download=True)". (torchvision says: {error})'
        ) from error


def _samples(dataset: Any, split: str, found: _Set, root: Path) -> list[tuple[str, int]]:
    """Return (key, class index) of every image, without decoding any."""
    if found.files is None:
        return [(f"{split}/{index}", int(dataset[index][1])) for index in range(len(dataset))]
    if found.files == "loader":
        pairs = [dataset[index] for index in range(len(dataset))]
    elif found.files[0] == found.files[1]:
        pairs = getattr(dataset, found.files[0])
    else:
        paths, labels = (getattr(dataset, name) for name in found.files)
        pairs = list(zip(paths, labels, strict=True))
    return [(Path(os.path.relpath(path, root)).as_posix(), int(label)) for path, label in pairs]


def _class_names(dataset: Any, samples: list[tuple[str, int, str]]) -> list[str]:
    """Return the names in index order; the numbers themselves where the dataset has no names."""
    names = getattr(dataset, "classes", None)
    if names is None:
        return [str(index) for index in range(max(label for _, label, _ in samples) + 1)]
    names = [name if isinstance(name, str) else name[0] for name in names]
    if len(set(names)) < len(names):
        raise TableError(f"torchvision gives several classes one name: {quoted(sorted(names))}")
    return names
