"""Divide a table into train, val and test, so that no picture is on two sides.

Counts per class are exact largest-remainder shares. What belongs together (the rows of one image,
of one `group`, or of pictures that look alike) is one unit and moves as a whole. The only chance
in it is a hash of (seed, image name), so the order of the rows plays no part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fieldmark.data.duplicates import Duplicates, join_pairs
from fieldmark.data.stratify import TEST, TRAIN, VAL, Counts, Shares, Unit, assign_units
from fieldmark.data.table import SPLITS, Row, Table
from fieldmark.errors import SplitError
from fieldmark.recipes.schema import Split
from fieldmark.seeds import derive_seed

_NAMED_IN_NOTE = 10


def split_table(
    table: Table,
    split: Split,
    *,
    min_images: int,
    seed: int,
    duplicates: Duplicates | None,
) -> Table:
    """Set `split` of every row; notes say what was dropped, kept together or is doubtful.

    Splits that the table brings are kept. Raises `SplitError` if only some rows have one, if
    nothing is left for train, or if fewer than two classes have `min_images` images.
    """
    groups = duplicates.groups(near=split.near_duplicates) if duplicates else ()
    if any(row.split is not None for row in table.rows):
        return _keep_given(table, groups)
    table = _drop_small_classes(table, min_images)
    if split.rule == "as_published":
        sides = _as_published_sides(table, split.ratios, seed)
        note = (
            "The split follows the published arithmetic (rule: as_published), which ignores "
            "groups and duplicates: copies of one picture may be on two sides."
        )
        return _with_sides(table, sides, note, *_describe_leaks(table.rows, sides, groups))
    units = _find_units(table, groups, seed)
    sides = [TRAIN] * len(table)
    for unit, side in zip(units, assign_units(units, split.ratios), strict=True):
        for index in unit.rows:
            sides[index] = side
    return _with_sides(table, sides, *_describe_absences(table, units, sides, split.ratios))


def as_published_counts(num_images: int, ratios: Shares) -> Counts:
    """Train, val and test of a class in Animesion's arithmetic: floats, rounded down.

    In binary 0.7 + 0.1 is a little less than 0.8, so of 20 images 15 and not 16 are for train
    and val: 14, 1, 5.
    """
    trainval = int(num_images * (ratios[TRAIN] + ratios[VAL]))
    train = int(num_images * ratios[TRAIN])
    return train, trainval - train, num_images - trainval


def _keep_given(table: Table, groups: Iterable[Sequence[str]]) -> Table:
    missing = [row.image for row in table.rows if row.split is None]
    unknown = {row.split for row in table.rows} - {None, *SPLITS}
    faults = []
    if unknown:
        names = ", ".join(f"'{name}'" for name in sorted(map(str, unknown)))
        faults.append(f"unknown splits: {names}; expected train, val or test")
    if missing:
        faults.append(
            f"{len(missing)} of {len(table)} rows have no split, the first is {missing[0]}; "
            "give every row one, or none to have the table split here"
        )
    if not any(row.split == "train" for row in table.rows):
        faults.append("no row is in train")
    if faults:
        raise SplitError("The table's own split cannot be used: " + "; ".join(faults) + ".")
    sides = [SPLITS.index(str(row.split)) for row in table.rows]
    absent = [name for index, name in enumerate(SPLITS) if index not in sides]
    notes = [f"The table's own split has no {name} images." for name in absent]
    trained = {label for row in table.rows if row.split == "train" for label in row.labels}
    untrained = sorted({label for row in table.rows for label in row.labels} - trained)
    if untrained:
        notes.append(f"No training image in the table's own split: {_list_names(untrained)}.")
    return table.with_rows(table.rows, *notes, *_describe_leaks(table.rows, sides, groups))


def _drop_small_classes(table: Table, min_images: int) -> Table:
    unlabelled = [row.image for row in table.rows if not row.labels]
    if unlabelled and table.task != "multilabel":
        raise SplitError(
            f"{len(unlabelled)} of {len(table)} rows have no label, the first is "
            f"{unlabelled[0]}; label them or leave them out."
        )
    counts = table.class_counts()
    small = sorted(name for name, count in counts.items() if count < min_images)
    kept = set(counts) - set(small)
    num_needed = 1 if table.task == "multilabel" else 2
    if len(kept) < num_needed:
        found = f"{len(counts)} class{'' if len(counts) == 1 else 'es'}"
        raise SplitError(
            f"{len(kept)} of {found} in {table.source} have {min_images} or more images, and "
            f"at least {num_needed} must; add images, or lower --min-images."
        )
    if not small:
        return table
    rows = []
    for row in table.rows:
        labels = tuple(label for label in row.labels if label in kept)
        if labels or not row.labels:
            rows.append(replace(row, labels=labels))
    names = tuple(name for name in table.class_names if name in kept)
    described = _list_names([f"{name} ({counts[name]})" for name in small])
    note = f"Classes with fewer than {min_images} images are left out: {described}."
    return replace(table, class_names=names).with_rows(rows, note)


def _find_units(table: Table, groups: Iterable[Sequence[str]], seed: int) -> list[Unit]:
    """Units in the order of assignment: rare classes first (multi-label), large ones, by chance."""
    counts = Counter(label for row in table.rows for label in _strata(row))
    links = ((node, ("image", row.image)) for row in table.rows for node in _nodes(row))
    copies = ((("image", group[0]), ("image", image)) for group in groups for image in group)
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(table.rows):
        rows_of[row.image].append(index)
    units = []
    for component in join_pairs([*links, *copies]):
        images = [name for kind, name in component if kind == "image" and name in rows_of]
        if not images:
            continue
        rows = sorted(index for image in images for index in rows_of[image])
        labels = Counter(label for index in rows for label in _strata(table.rows[index]))
        key = min(derive_seed(seed, "split", image) for image in images)
        units.append(Unit(tuple(rows), dict(sorted(labels.items())), key))

    def rarity(unit: Unit) -> int:
        return min(counts[label] for label in unit.labels) if table.task == "multilabel" else 0

    return sorted(units, key=lambda unit: (rarity(unit), -len(unit.rows), unit.key))


def _nodes(row: Row) -> list[tuple[str, str]]:
    own = [("image", row.image)]
    return own if row.group is None else [*own, ("group", row.group)]


def _strata(row: Row) -> tuple[str, ...]:
    """What is kept in proportion: the labels, or their absence."""
    return row.labels or ("",)


def _as_published_sides(table: Table, ratios: Shares, seed: int) -> list[int]:
    if table.task == "multilabel":
        raise SplitError("The rule as_published is for one label per image; use rule: exact.")
    used = [part for part in (TRAIN, VAL, TEST) if ratios[part] > 0]
    if len(used) == 1:
        return [TRAIN] * len(table)
    if len(used) == 2:
        return _shuffled_sides(table, ratios[TRAIN], used[1], seed)
    counts = table.class_counts()
    seen: Counter[str] = Counter()
    sides = []
    for row in table.rows:
        train, val, _ = as_published_counts(counts[row.label], ratios)
        position = seen[row.label]
        seen[row.label] += 1
        sides.append(TRAIN if position < train else VAL if position < train + val else TEST)
    untrained = sorted(name for name in counts if as_published_counts(counts[name], ratios)[0] == 0)
    if untrained:
        raise SplitError(
            f"The rule as_published leaves no training image to {_list_names(untrained)}; "
            "raise --min-images or use rule: exact."
        )
    return sides


def _shuffled_sides(table: Table, train_share: float, other: int, seed: int) -> list[int]:
    from sklearn.model_selection import train_test_split

    sides = [other] * len(table)
    try:
        train, _ = train_test_split(
            range(len(table)),
            train_size=train_share,
            stratify=[row.label for row in table.rows],
            random_state=seed,
        )
    except ValueError as error:
        raise SplitError(
            f"scikit-learn cannot split these classes by rule as_published: {error} "
            "Raise --min-images or use rule: exact."
        ) from error
    for index in train:
        sides[index] = TRAIN
    return sides


def _with_sides(table: Table, sides: Sequence[int], *notes: str) -> Table:
    rows = [replace(row, split=SPLITS[s]) for row, s in zip(table.rows, sides, strict=True)]
    return table.with_rows(rows, *notes)


def _describe_leaks(
    rows: Sequence[Row], sides: Sequence[int], groups: Iterable[Sequence[str]]
) -> list[str]:
    sides_of: defaultdict[str, set[int]] = defaultdict(set)
    sides_of_group: defaultdict[str, set[int]] = defaultdict(set)
    for row, side in zip(rows, sides, strict=True):
        sides_of[row.image].add(side)
        if row.group is not None:
            sides_of_group[row.group].add(side)
    alike = [set().union(*(sides_of.pop(image, set()) for image in group)) for group in groups]
    num_alike = sum(len(found) > 1 for found in [*alike, *sides_of.values()])
    num_groups = sum(len(found) > 1 for found in sides_of_group.values())
    notes = []
    if num_alike:
        notes.append(
            f"Leak: {num_alike} sets of identical or look-alike pictures are on more than one "
            "side of the split, so scores will be too good."
        )
    if num_groups:
        notes.append(f"Leak: {num_groups} groups of rows are on more than one side of the split.")
    return notes


def _describe_absences(
    table: Table, units: Sequence[Unit], sides: Sequence[int], ratios: Shares
) -> list[str]:
    counts = Counter(label for unit in units for label in unit.labels)
    totals = table.class_counts()
    present = {
        (label, side) for row, side in zip(table.rows, sides, strict=True) for label in row.labels
    }
    single = sorted(name for name in totals if counts[name] == 1 and totals[name] > 1)
    notes = []
    if single:
        notes.append(
            "All images of a class belong together (one group, or the same picture) and are "
            f"in train: {_list_names(single)}."
        )
    if ratios[TEST] > 0:
        untested = sorted(name for name in set(totals) - set(single) if (name, TEST) not in present)
        if untested:
            notes.append(f"No image is left for test: {_list_names(untested)}.")
    return notes


def _list_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_IN_NOTE} more" if len(names) > _NAMED_IN_NOTE else ""
    return ", ".join(names[:_NAMED_IN_NOTE]) + more
