"""Weights, probes and similarity of layers are what arithmetic says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import linear_kernel

from fieldmark.errors import InspectionError
from fieldmark.inspection.layers.figures import draw_layers, layer_weights, share_of_layers
from fieldmark.inspection.layers.probes import probe_layers, score
from fieldmark.inspection.layers.similarity import compare_layers, compute_cka
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.readings import Readings, read_features
from fieldmark.inspection.subject import Subject

MakeSubject = Callable[..., Subject]


def test_a_representation_and_its_rotation_are_the_same() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(60, 8))
    rotation, _ = np.linalg.qr(generator.normal(size=(8, 8)))
    assert compute_cka(values, 3.0 * values @ rotation + 5.0) == pytest.approx(1.0, abs=1e-9)
    assert compute_cka(values, values @ np.diag([9, 1, 1, 1, 1, 1, 1, 1])) < 0.95


def test_independent_representations_are_not_alike_however_wide() -> None:
    generator = np.random.default_rng(1)
    wide = [generator.normal(size=(50, 400)) for _ in range(2)]
    assert abs(compute_cka(*wide)) < 0.1  # the biased estimator says 0.89


def test_similarity_equals_the_written_formula() -> None:
    """Song et al. 2012, equation 5, term by term."""
    generator = np.random.default_rng(2)
    first, second = generator.normal(size=(12, 3)), generator.normal(size=(12, 5))

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        n = len(a)
        k, m = (linear_kernel(v - v.mean(axis=0)) * (1 - np.eye(n)) for v in (a, b))
        ones = np.ones(n)
        middle = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        last = 2 / (n - 2) * ones @ k @ m @ ones
        return float((np.trace(k @ m) + middle - last) / (n * (n - 3)))

    scale = np.sqrt(hsic(first, first) * hsic(second, second))
    expected = hsic(first, second) / scale
    assert compare_layers([first], [second])[0, 0] == pytest.approx(expected)


def test_the_weights_shown_are_those_of_the_head(make_subject: MakeSubject) -> None:
    subject = make_subject(head="ifa")
    head = subject.classifier.head
    count = subject.classifier.backbone.num_layers
    chosen = torch.linspace(-1, 1, count)
    with torch.no_grad():
        head.join.weight.copy_(chosen[None])  # type: ignore[union-attr]
    weights = layer_weights(subject)
    assert weights is not None
    assert np.allclose(weights, chosen.numpy())
    (drawing,) = draw_layers(replace(subject, table=None), InspectOptions())
    heights = [bar.get_height() for bar in drawing.figure.axes[0].patches]
    assert np.allclose(heights, chosen.numpy())


def test_without_images_the_weights_are_left_and_a_note_says_so(make_subject: MakeSubject) -> None:
    notes: list[str] = []
    options = InspectOptions(note=notes.append)
    drawings = list(draw_layers(replace(make_subject(head="ifa"), table=None), options))
    assert len(drawings) == 1
    assert "images are gone, so only the IFA weights are drawn" in notes[0]
    with pytest.raises(InspectionError, match="are gone"):
        list(draw_layers(replace(make_subject(run="linear"), table=None), options))


def test_shares_count_how_long_the_tokens_are(make_subject: MakeSubject) -> None:
    table = make_subject().table
    assert table is not None
    values = np.ones((4, 9, 2), np.float32)
    values[:, :, 1] *= 3
    readings = Readings(table, values, {})
    shares = share_of_layers(np.array([-1.0, 1.0], np.float32), readings)
    assert np.allclose(shares, [0.25, 0.75])


def test_a_probe_finds_the_layer_that_knows_the_class(make_subject: MakeSubject) -> None:
    table = make_subject().table
    assert table is not None
    parts = {split: table.select(split) for split in ("train", "test")}
    readings = {}
    for split, part in parts.items():
        generator = np.random.default_rng(len(part))
        values = generator.normal(size=(len(part), 4, 2)).astype(np.float32)
        for place, row in enumerate(part.rows):
            values[place, table.class_index[row.label], 1] += 20
        readings[split] = Readings(part, values, {})
    blind, seeing = probe_layers(readings["train"], {"test": readings["test"]})
    assert seeing.scores["test"].accuracy == 1.0
    assert blind.scores["test"].accuracy < 0.8
    assert seeing.scores["test"].num_images == 12


def test_the_interval_is_wilsons() -> None:
    found = score(np.array([True] * 8 + [False] * 2))
    assert (found.accuracy, found.num_images) == (0.8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_layers_of_two_runs_are_compared(make_subject: MakeSubject) -> None:
    first, second = make_subject(head="ifa"), make_subject(head="ifa", run="other")
    drawings = list(draw_layers(first, InspectOptions(other=str(second.folder.path))))
    assert [d.detail for d in drawings] == [
        "weights-and-probes",
        "similarity",
        "similarity-with-other",
    ]
    assert "test split" in drawings[2].caption
    own = drawings[1].figure.axes[0].images[0].get_array()
    assert own is not None
    assert np.allclose(np.diag(own), 1.0)


def test_stages_of_a_cnn_are_layers_too(make_subject: MakeSubject) -> None:
    subject = make_subject("test_resnet")
    assert subject.table is not None
    found = read_features(subject, subject.table.select("test"), reads="layers")
    assert found.values.shape == (12, *found.values.shape[1:])
    assert found.values.shape[2] == subject.classifier.backbone.num_layers
