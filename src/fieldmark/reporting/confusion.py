"""What a run takes for what: the confusion matrix in an order, and its worst pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldmark.evaluation.predictions import Predictions
from fieldmark.reporting.material import Material

MAX_CLASSES = 200
MAX_PAIRS = 12

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Cell:
    """Images of the class in `row` that were taken for the class in `column`."""

    row: int
    column: int
    count: int
    share: float


@dataclass(frozen=True)
class Pair:
    """A confusion: `count` of the `support` images of `true` were taken for `predicted`."""

    true: str
    predicted: str
    count: int
    support: int


@dataclass(frozen=True)
class Confusion:
    """The matrix, row by row: class names in drawing order, images per row, non-empty cells.

    `num_classes` classes occur, as truth or as prediction; of more than `MAX_CLASSES`, those with
    most mistakes are here.
    """

    names: tuple[str, ...]
    support: tuple[int, ...]
    cells: tuple[Cell, ...]
    pairs: tuple[Pair, ...]
    num_classes: int
    is_clustered: bool


def build_confusion(material: Material) -> Confusion | None:
    """Count confusions; None for multi-label: no image has one true class there."""
    predictions = material.predictions
    if predictions is None or predictions.task == "multilabel":
        return None
    matrix = count_confusions(predictions)
    if not matrix.any():
        return None
    occurring = np.flatnonzero(matrix.any(axis=0) | matrix.any(axis=1))
    chosen = _most_mistaken(matrix, occurring)
    part = matrix[np.ix_(chosen, chosen)]
    # Shares are of all images of a class, also those taken for classes that are not drawn.
    support = matrix.sum(axis=1)[chosen]
    share = part / np.maximum(support, 1)[:, None]
    clustered = len(chosen) > 2 and bool((part - np.diag(part.diagonal())).any())
    order = order_by_confusion(share) if clustered else np.arange(len(chosen))
    return Confusion(
        names=tuple(predictions.class_names[chosen[place]] for place in order),
        support=tuple(int(support[place]) for place in order),
        cells=_list_cells(part[np.ix_(order, order)], share[np.ix_(order, order)]),
        pairs=_worst_pairs(matrix, predictions.class_names),
        num_classes=len(occurring),
        is_clustered=clustered,
    )


def count_confusions(predictions: Predictions) -> Counts:
    """(K, K) images by true class (row) and predicted class (column)."""
    num_classes = len(predictions.class_names)
    pairs = np.array(
        [
            (targets[0], predicted[0])
            for targets, predicted in zip(predictions.targets, predictions.predicted, strict=True)
            if targets and predicted
        ],
        dtype=np.int64,
    ).reshape(-1, 2)
    flat = np.bincount(pairs[:, 0] * num_classes + pairs[:, 1], minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes).astype(np.int64, copy=False)


def order_by_confusion(share: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order classes so that those taken for each other are neighbours.

    share: (K, K) of the images of a row, by predicted class. Average linkage over the mean of
    both directions; the tree's leaves in the order that keeps neighbours nearest.
    """
    # A second to import, which a report without a matrix need not wait for.
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    likeness = (share + share.T) / 2
    np.fill_diagonal(likeness, 0.0)
    distance = 1.0 - likeness
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), method="average", optimal_ordering=True)
    order: NDArray[np.int64] = leaves_list(tree).astype(np.int64)
    return order


def _most_mistaken(matrix: Counts, occurring: NDArray[np.int64]) -> NDArray[np.int64]:
    """The `MAX_CLASSES` of `occurring` with most mistakes from and to them, in index order."""
    wrong = matrix - np.diag(matrix.diagonal())
    mistakes = (wrong.sum(axis=0) + wrong.sum(axis=1))[occurring]
    return np.sort(occurring[np.argsort(-mistakes, kind="stable")[:MAX_CLASSES]])


def _list_cells(counts: Counts, share: NDArray[np.float64]) -> tuple[Cell, ...]:
    """The non-empty cells in reading order."""
    rows, columns = np.nonzero(counts)
    return tuple(
        Cell(int(r), int(c), int(counts[r, c]), float(share[r, c]))
        for r, c in zip(rows, columns, strict=True)
    )


def _worst_pairs(matrix: Counts, names: tuple[str, ...]) -> tuple[Pair, ...]:
    wrong = matrix - np.diag(matrix.diagonal())
    support = matrix.sum(axis=1)
    rows, columns = np.nonzero(wrong)
    worst = np.lexsort(
        (-(wrong / np.maximum(support, 1)[:, None])[rows, columns], -wrong[rows, columns])
    )
    return tuple(
        Pair(names[r], names[c], int(wrong[r, c]), int(support[r]))
        for r, c in ((rows[place], columns[place]) for place in worst[:MAX_PAIRS])
    )
