"""Which images stand for a class, which do not, and which class it is taken for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from fieldmark.data.table import Row, Table
from fieldmark.errors import InspectionError, hint
from fieldmark.evaluation.metrics import score_classes
from fieldmark.evaluation.predictions import Predictions
from fieldmark.inspection.mistakes.pairs import find_pairs
from fieldmark.inspection.readings import Count, Readings, ignore_count, read_features
from fieldmark.inspection.subject import Subject


@dataclass(frozen=True)
class Specimen:
    """An image of a class. similarity: cosine of its features with the class's centre.

    taken_for, probability: the class that was chosen in its place, for a confused image.
    """

    row: Row
    similarity: float
    taken_for: str = ""
    probability: float = 0.0


@dataclass(frozen=True)
class ClassMarks:
    """What a plate shows of a class.

    num_images: by split. precision, recall: on `split`, of its `support` images there; NaN
    without any. typical: nearest to the centre of the class's training images first; atypical:
    farthest first, of all splits. confused: images of `split` that were taken for another class,
    surest first. look_alike: the class it is most often confused with, either way; else the one
    that gets the most probability. num_confused: how often.
    """

    name: str
    num_images: dict[str, int]
    precision: float
    recall: float
    support: int
    split: str
    typical: tuple[Specimen, ...]
    atypical: tuple[Specimen, ...]
    confused: tuple[Specimen, ...]
    look_alike: str
    num_confused: int
    look_alike_typical: tuple[Specimen, ...]


def describe_class(
    subject: Subject,
    table: Table,
    predictions: Predictions,
    name: str,
    *,
    split: str,
    count: Count = ignore_count,
) -> ClassMarks:
    """Choose the specimens of class `name`.

    Raises `InspectionError` for a name that is no class of the run, or one without images.
    """
    known = subject.predictor.class_names
    if name not in known:
        raise InspectionError(
            f"--classes {name}: is none of the run's {len(known)} classes.{hint(name, known)}"
        )
    look_alike, num_confused = find_look_alike(predictions, name)
    ranked = rank_specimens(read_class(subject, table, name, count))
    if not ranked:
        raise InspectionError(f"classes: no image of '{name}' can be read. Restore them")
    similarity = {specimen.row.image: specimen.similarity for specimen in ranked}
    rows = {_as_text(specimen.row.image): specimen.row for specimen in ranked}
    confused = [
        Specimen(rows[m.image], similarity[rows[m.image].image], pair.chosen, m.probability)
        for pair in find_pairs(predictions)
        if pair.given == name
        for m in pair.mistakes
        if m.image in rows
    ]
    scores = score_classes(predictions)[known.index(name)]
    counts = Counter(s.row.split or "none" for s in ranked)
    return ClassMarks(
        name=name,
        num_images={part: counts[part] for part in ("train", "val", "test")},
        precision=scores.precision,
        recall=scores.recall,
        support=scores.support,
        split=split,
        typical=tuple(ranked),
        atypical=tuple(reversed(ranked)),
        confused=tuple(sorted(confused, key=lambda s: -s.probability)),
        look_alike=look_alike,
        num_confused=num_confused,
        look_alike_typical=tuple(rank_specimens(read_class(subject, table, look_alike, count))),
    )


def read_class(subject: Subject, table: Table, name: str, count: Count) -> Readings:
    """The features of all images that have the label, of every split."""
    rows = [row for row in table.rows if name in row.labels]
    return read_features(subject, table.with_rows(rows), count=count)


def rank_specimens(readings: Readings) -> list[Specimen]:
    """The images by falling cosine with the centre of the training images (else of all)."""
    if not len(readings.values):
        return []
    lengths = np.linalg.norm(readings.values, axis=1, keepdims=True)
    units = readings.values / np.maximum(lengths, np.finfo(np.float32).tiny)
    is_train = np.array([row.split == "train" for row in readings.table.rows])
    centre = (units[is_train] if is_train.any() else units).mean(axis=0)
    cosines = units @ (centre / max(float(np.linalg.norm(centre)), 1e-30))
    order = np.argsort(-cosines, kind="stable")
    return [Specimen(readings.table.rows[i], float(cosines[i])) for i in order.tolist()]


def find_look_alike(predictions: Predictions, name: str) -> tuple[str, int]:
    """The class that is most often confused with this one, either way, and how often.

    Where it never is: the class that gets the most probability on its images.
    """
    names = predictions.class_names
    counts: Counter[str] = Counter()
    for pair in find_pairs(predictions):
        if name in (pair.given, pair.chosen):
            counts[pair.chosen if pair.given == name else pair.given] += len(pair.mistakes)
    if counts:
        return counts.most_common(1)[0]
    own = names.index(name)
    mass = np.zeros(len(names))
    for row, targets in enumerate(predictions.targets):
        if own in targets:
            np.add.at(mass, predictions.top_index[row], predictions.top_probability[row])
    mass[own] = -1.0
    return names[int(mass.argmax())], 0


def _as_text(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
