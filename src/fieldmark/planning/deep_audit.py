"""The audit that needs a network: labels that look wrong, and copies that no hash can find."""

from __future__ import annotations

import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from fieldmark.data.audit.auditing import Audit
from fieldmark.data.audit.deep import DeepAudit, Network, SuspectLabel
from fieldmark.data.audit.groups import CopyGroup, join_groups, sort_groups
from fieldmark.data.audit.looking import Progress
from fieldmark.data.duplicates import join_pairs
from fieldmark.data.table import Row
from fieldmark.errors import DataError
from fieldmark.planning.embeddings import Embeddings, embed_images
from fieldmark.seeds import derive_seed

NUM_FOLDS = 5
MIN_PICTURES = 2
REGULARISATION = 0.1

# Cosine distances of embeddings about their mean: what is the same always, and what is if it is
# also much closer than a picture's own neighbours (the ratio of `data.duplicates`).
SAME_DISTANCE = 0.02
LOOKALIKE_DISTANCE = 0.2
NEIGHBOUR_RATIO = 0.4
NEIGHBOUR_RANK = 10
_BLOCK = 1024

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def check_packages() -> None:
    """Raise `DataError` where what finds wrong labels is not installed."""
    if find_spec("cleanlab") is None:
        raise DataError(
            "--deep finds wrong labels with the package 'cleanlab', which is not installed. "
            "Install it with: pip install 'fieldmark[audit]'"
        )


def audit_deeply(
    audit: Audit, network: Network, *, seed: int = 0, progress: Progress | None = None
) -> DeepAudit:
    """Look at every readable image of an audited table through `network`.

    Wrong labels: confident learning (Northcutt et al., JAIR 2021) on probabilities out of 5 folds
    that keep copies together. Raises `DataError` without cleanlab, `ModelError` for the network.
    """
    check_packages()
    start = time.perf_counter()
    bad = {entry.image for entry in audit.unreadable}
    images = [i for i in dict.fromkeys(row.image for row in audit.table.rows) if i not in bad]
    if not images:
        raise DataError(f"{audit.table.source}: no image can be read, so --deep has none to see")
    found = embed_images(audit.table, images, network, progress=progress)
    copies = join_groups(audit.duplicates)
    suspects, accuracy, notes = _suspect_labels(audit, found, copies, seed)
    return DeepAudit(
        network=network,
        num_images=len(found.images),
        accuracy=accuracy,
        suspects=suspects,
        look_alikes=_find_lookalikes(audit, found, copies),
        notes=notes,
        seconds=time.perf_counter() - start,
    )


def _suspect_labels(
    audit: Audit, found: Embeddings, copies: Sequence[Sequence[str]], seed: int
) -> tuple[tuple[SuspectLabel, ...], float | None, tuple[str, ...]]:
    if audit.table.task == "multilabel":
        return (), None, ("Wrong labels are looked for in data with one label per image only.",)
    place_of = {image: place for place, image in enumerate(found.images)}
    picture_of = {image: group[0] for group in copies for image in group}
    pictures: defaultdict[str, set[str]] = defaultdict(set)
    rows = [row for row in audit.table.rows if row.labels and row.image in place_of]
    for row in rows:
        pictures[row.label].add(picture_of.get(row.image, row.image))
    small = sorted(name for name, members in pictures.items() if len(members) < MIN_PICTURES)
    rows = [row for row in rows if row.label not in small]
    names = sorted({row.label for row in rows})
    notes = []
    if small:
        notes.append(
            f"{len(small)} classes with a single picture cannot be judged: {', '.join(small[:10])}"
            + (", ..." if len(small) > 10 else ".")
        )
    if len(names) < 2:
        return (), None, (*notes, "Fewer than two classes have two pictures: no label is judged.")
    targets = np.array([names.index(row.label) for row in rows])
    vectors = found.vectors[[place_of[row.image] for row in rows]]
    folds = deal_folds(rows, [picture_of.get(row.image, row.image) for row in rows], seed)
    probabilities = predict_out_of_fold(vectors, targets, folds, len(names))
    predicted = probabilities.argmax(axis=1)
    suspects = [
        SuspectLabel(
            image=rows[place].image,
            label=rows[place].label,
            suggested=names[predicted[place]],
            given_probability=float(probabilities[place, targets[place]]),
            suggested_probability=float(probabilities[place, predicted[place]]),
        )
        for place in rank_suspects(targets, probabilities)
        if predicted[place] != targets[place]
    ]
    return tuple(suspects), float((predicted == targets).mean()), tuple(notes)


def deal_folds(rows: Sequence[Row], pictures: Sequence[str], seed: int) -> Indices:
    """A fold of 0..4 for each row (N,): copies in one fold, each class spread over all.

    Pictures are dealt in an order drawn from (seed, name), each to the fold that has fewest of its
    class so far.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    for place, picture in enumerate(pictures):
        members[picture].append(place)
    folds = np.empty(len(rows), dtype=np.int64)
    of_class: defaultdict[str, Counter[int]] = defaultdict(Counter)
    sizes: Counter[int] = Counter()
    for picture in sorted(members, key=lambda name: derive_seed(seed, "fold", name)):
        labels = [rows[place].label for place in members[picture]]
        fold = min(
            range(NUM_FOLDS),
            key=lambda f: (sum(of_class[label][f] for label in labels), sizes[f], f),
        )
        folds[members[picture]] = fold
        sizes[fold] += len(labels)
        for label in labels:
            of_class[label][fold] += 1
    return folds


def predict_out_of_fold(
    vectors: Floats, targets: Indices, folds: Indices, num_classes: int
) -> Doubles:
    """Probabilities (N, K) of each row by a logistic regression that was fitted on other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probabilities = np.zeros((len(targets), num_classes))
    for fold in np.unique(folds):
        held = folds == fold
        known = np.unique(targets[~held])
        if len(known) < 2:
            probabilities[np.ix_(held, known)] = 1.0
            continue
        head = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=2000))
        head.fit(vectors[~held], targets[~held])
        probabilities[np.ix_(held, known)] = head.predict_proba(vectors[held])
    return probabilities


def rank_suspects(targets: Indices, probabilities: Doubles) -> list[int]:
    """Rows whose label is probably wrong, least likely label first, by cleanlab."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cleanlab and what it imports; nothing of ours
        from cleanlab.filter import find_label_issues

        ranked = find_label_issues(
            targets, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1
        )
    return [int(place) for place in ranked]


def _find_lookalikes(
    audit: Audit, found: Embeddings, copies: Sequence[Sequence[str]]
) -> tuple[CopyGroup, ...]:
    """Groups of images that the network finds alike, of which some were not known as copies."""
    number_of = {image: number for number, group in enumerate(copies) for image in group}
    pairs = [
        (found.images[a], found.images[b])
        for a, b in find_close_pairs(found.vectors)
        if number_of.get(found.images[a], -1) != number_of.get(found.images[b], -2)
    ]
    rows_of: defaultdict[str, list[Row]] = defaultdict(list)
    for row in audit.table.rows:
        rows_of[row.image].append(row)
    groups = (
        CopyGroup("embedding", tuple(row for image in sorted(group) for row in rows_of[image]))
        for group in join_pairs(pairs)
    )
    return sort_groups(groups)


def find_close_pairs(vectors: Floats) -> list[tuple[int, int]]:
    """Index pairs of vectors (N, D) that are the same, or much closer than their neighbours.

    All are compared with all, 1,024 rows at a time: memory O(1,024 N), time O(N^2 D).
    """
    centred = vectors - vectors.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    count = len(unit)
    rank = min(max(count // 50, 3), NEIGHBOUR_RANK, count - 1)
    crowd = np.full(count, np.inf, dtype=np.float32)
    close: list[tuple[int, int, float]] = []
    for start in range(0, count, _BLOCK):
        distance = 1 - unit[start : start + _BLOCK] @ unit.T  # (b, N)
        own = np.arange(start, start + len(distance))
        distance[np.arange(len(own)), own] = np.inf
        if count > 1:
            crowd[own] = np.partition(distance, rank - 1, axis=1)[:, rank - 1]
        # As close as its own neighbours allow; those of the other are asked once all are known.
        allowed = np.clip(NEIGHBOUR_RATIO * crowd[own], SAME_DISTANCE, LOOKALIKE_DISTANCE)
        row, column = np.nonzero(distance <= allowed[:, None])
        later = row + start < column
        close += zip(
            (row[later] + start).tolist(),
            column[later].tolist(),
            distance[row[later], column[later]].tolist(),
            strict=True,
        )
    return [
        (a, b)
        for a, b, distance_ab in close
        if distance_ab <= SAME_DISTANCE or distance_ab <= NEIGHBOUR_RATIO * min(crowd[a], crowd[b])
    ]
