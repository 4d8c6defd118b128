"""What the columns of a Hugging Face dataset hold, as the text that rows are built from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fieldmark.data.sources.columns import ROLES
from fieldmark.data.sources.faults import count, quoted, shorten
from fieldmark.data.sources.options import Options
from fieldmark.data.sources.rows import Cell, Cells
from fieldmark.errors import TableError, hint


def choose_hf_columns(
    datasets: Any, splits: Mapping[str, Any], options: Options, source: str
) -> dict[str, str]:
    """Return role -> column name; images and labels are told by the type of their column."""
    features = next(iter(splits.values())).features
    for role, name in options.columns.items():
        for dataset in splits.values():
            if name not in dataset.features:
                raise TableError(
                    f"{source} has no column '{name}' (--column {role}={name}); "
                    f"it has {quoted(features)}.{hint(name, features)}"
                )
    images = [n for n, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [n for n, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    columns = {"image": _only("image", images, options, features, source)}
    if not isinstance(features[columns["image"]], datasets.Image):
        raise TableError(
            f"{source}: column '{columns['image']}' holds no images ({features[columns['image']]})."
        )
    if options.labelled:
        labels = labels if len(labels) == 1 or "label" not in features else ["label"]
        columns["label"] = _only("label", labels, options, features, source)
    for role in ("tags", "group") if options.labelled else ("tags",):
        if options.columns.get(role, role) in features:
            columns[role] = options.columns.get(role, role)
    absent = [n for n in columns.values() if any(n not in d.features for d in splits.values())]
    if absent:
        raise TableError(f"{source}: not every split has the column {quoted(absent)}.")
    return columns


def _only(
    role: str, found: Sequence[str], options: Options, features: Iterable[str], source: str
) -> str:
    if role in options.columns:
        return options.columns[role]
    if len(found) == 1:
        return found[0]
    problem = f"has {len(found)} columns that may be the {role}" if found else f"has no {role}"
    raise TableError(
        f"{source} {problem} column. Say which one it is with --column {role}=NAME; "
        f"it has {quoted(features, num_shown=20)}."
    )


def read_cells(
    datasets: Any, splits: Mapping[str, Any], columns: Mapping[str, str]
) -> tuple[Cells, tuple[str, ...] | None]:
    """Return the columns as text, and the order of the classes where the dataset has one."""
    keys = [f"{split}/{i}" for split, dataset in splits.items() for i in range(len(dataset))]
    values: dict[str, list[Cell]] = {}
    order: dict[str, None] = {}
    for role in ROLES:
        if role == "image" or role not in columns:
            continue
        name = columns[role]
        values[role] = []
        for dataset in splits.values():
            feature = dataset.features[name]
            feature = getattr(feature, "feature", feature)
            names = feature.names if isinstance(feature, datasets.ClassLabel) else None
            if role == "label":
                order.update(dict.fromkeys(names or ()))
            column = dataset.select_columns([name])[:][name]
            values[role] += [_cell(value, names) for value in column]
    if len(splits) > 1 or "" not in splits:
        values["split"] = [split for split, dataset in splits.items() for _ in range(len(dataset))]
    cells = Cells(image=keys, places=range(1, len(keys) + 1), unit="row", **values)
    return cells, tuple(order) or None


def _cell(value: object, names: Sequence[str] | None) -> Cell:
    if isinstance(value, list):
        return tuple(_text(item, names) for item in value)
    return _text(value, names)


def _text(value: object, names: Sequence[str] | None) -> str:
    """Return a value as text; a class index as its name, and -1 (no label) as nothing."""
    if value is None:
        return ""
    if names is not None and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else ""
    return str(value)


def without_unlabelled(cells: Cells, options: Options) -> tuple[Cells, list[str]]:
    """Leave out the rows without a label: datasets keep the labels of their test set secret."""
    labels = cells.label or ()
    kept = [place for place, label in enumerate(labels) if label]
    missing = len(labels) - len(kept)
    if not missing or options.task == "multilabel":
        return cells, []

    def pick(column: Sequence[Cell] | None) -> list[Cell] | None:
        return None if column is None else [column[place] for place in kept]

    lost = (str(cells.places[place]) for place, label in enumerate(labels) if not label)
    picked = Cells(
        image=pick(cells.image) or [],
        label=pick(cells.label),
        tags=pick(cells.tags),
        split=pick(cells.split),
        group=pick(cells.group),
        places=[cells.places[place] for place in kept],
        unit=cells.unit,
    )
    return picked, [f"{count(missing, 'row')} without a label left out: {shorten(lost)}."]
