"""`draw_layers`: the weight of each layer, what it scores alone, and how alike layers are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fieldmark.data.table import Table
from fieldmark.errors import InspectionError
from fieldmark.inspection.layers.drawing import draw_contributions, draw_similarity
from fieldmark.inspection.layers.probes import Probe, probe_layers
from fieldmark.inspection.layers.similarity import compare_layers
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.others import load_other
from fieldmark.inspection.pictures import choose_rows
from fieldmark.inspection.readings import Readings, read_features
from fieldmark.inspection.subject import Subject
from fieldmark.models.ifa_head import IfaHead
from fieldmark.runs.figures import Drawing

MOST_TRAIN, MOST_SCORED, MOST_COMPARED = 1000, 400, 300


def layer_weights(subject: Subject) -> NDArray[np.float32] | None:
    """(L,) how much the IFA head counts each layer; None for other heads."""
    head = subject.classifier.head
    if not isinstance(head, IfaHead):
        return None
    weights: NDArray[np.float32] = head.layer_weights.detach().float().cpu().numpy()
    return weights


def draw_layers(subject: Subject, options: InspectOptions) -> Iterator[Drawing]:
    """Weights and probes of the layers, their similarity, and that to the run `other`.

    Without the run's images only an IFA head's weights are left, and a note says so. Raises
    `InspectionError` for a network that gives no layers.
    """
    weights = layer_weights(subject)
    if subject.table is None:
        if weights is None:
            raise InspectionError(
                f"layers: the images of {subject.folder.path} are gone, so there is nothing to "
                "compare its layers on. Restore them"
            )
        options.note("layers: the run's images are gone, so only the IFA weights are drawn.")
        yield _contributions(subject, weights, None, [])
        return
    table = subject.table
    readings = {
        split: _read(subject, table, split, most, options)
        for split, most in (("train", MOST_TRAIN), ("val", MOST_SCORED), ("test", MOST_SCORED))
    }
    scored = {split: r for split, r in readings.items() if split != "train" and r.images}
    probes = probe_layers(
        readings["train"],
        scored,
        count=lambda done, total: options.progress("probes", done, total),
    )
    yield _contributions(subject, weights, readings["train"], probes)
    split, compared = _compared(subject, options)
    yield _similarity(subject, subject, compared, split)
    if options.other is not None:
        other = load_other(options.other, subject)
        yield _similarity(subject, other, compared, split)


def _read(
    subject: Subject, table: Table, split: str, most: int, options: InspectOptions
) -> Readings:
    rows = choose_rows(table.select(split), most, options.seed)
    return read_features(
        subject,
        table.with_rows(rows),
        reads="layers",
        count=lambda done, total: options.progress(f"layers of {split} images", done, total),
    )


def _compared(subject: Subject, options: InspectOptions) -> tuple[str, Table]:
    assert subject.table is not None
    split = options.split if len(subject.table.select(options.split)) >= 4 else "train"
    rows = choose_rows(subject.table.select(split), MOST_COMPARED, options.seed)
    return split, subject.table.with_rows(rows)


def _contributions(
    subject: Subject,
    weights: NDArray[np.float32] | None,
    train: Readings | None,
    probes: list[Probe],
) -> Drawing:
    shares = None if weights is None or train is None else share_of_layers(weights, train)
    title = f"Layers of {subject.model}"
    figure, subtitle = draw_contributions(weights, shares, probes, title=title)
    caption = f"{subject.model}: {subtitle}"
    if probes:
        best = max(probes, key=lambda probe: next(iter(probe.scores.values())).accuracy)
        caption += (
            f" Probes: logistic regression (C = 0.1) on the standardised class token (CNN: pooled "
            f"map) of each layer of {len(train.images) if train else 0} training images; bars "
            f"are 95% Wilson intervals. Highest on the first split shown: layer {best.layer + 1}."
        )
    return Drawing("layers", subject.model, "weights-and-probes", title, caption, figure)


def share_of_layers(weights: NDArray[np.float32], readings: Readings) -> NDArray[np.float64]:
    """(L,) how large each layer's weighted token is among all, on average; they sum to 1.

    Tokens of deep layers are longer than those of early ones, so weights alone say little.
    """
    lengths = np.linalg.norm(readings.values.astype(np.float64), axis=1)  # (N, L)
    sizes = np.abs(weights) * lengths.mean(axis=0)
    return np.asarray(sizes / max(float(sizes.sum()), 1e-30))


def _similarity(first: Subject, second: Subject, compared: Table, split: str) -> Drawing:
    values = [read_features(s, compared, reads="layers").values for s in (first, second)]
    layers = [[v[:, :, layer] for layer in range(v.shape[2])] for v in values]
    is_self = first is second
    matrix = compare_layers(layers[0], layers[1])
    names = [f"{s.model} ({s.folder.path.name})" for s in (first, second)]
    title = (
        f"Similarity of the layers of {first.model}"
        if is_self
        else f"Similarity of layers: {names[0]} and {names[1]}"
    )
    caption = (
        f"Linear CKA (Kornblith et al. 2019; unbiased, all {len(values[0])} images at once) of "
        f"the layers of {names[0]}"
        f"{' with each other' if is_self else f' with those of {names[1]}'}, {split} split. 1: "
        "the same up to rotation and scale."
    )
    figure = draw_similarity(matrix, title=title, subtitle=caption, names=tuple(names))
    detail = "similarity" if is_self else f"similarity-with-{second.folder.path.name}"
    return Drawing("layers", first.model, detail, title, caption, figure)
