"""Wrong labels and look-alikes, on vectors that are made up and on a network without training."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fieldmark.data.audit.auditing import audit_table
from fieldmark.data.audit.deep import Network, describe_deep_audit
from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.errors import DataError, WeightsError
from fieldmark.models.classifier import build_classifier
from fieldmark.planning.deep_audit import (
    audit_deeply,
    check_packages,
    deal_folds,
    find_close_pairs,
    predict_out_of_fold,
    rank_suspects,
)
from fieldmark.recipes.schema import Model


def blobs(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Three well separated classes in 8 dimensions."""
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(3), count)
    centres = 6 * np.eye(8)[:3]
    vectors = centres[targets] + rng.standard_normal((3 * count, 8))
    return vectors.astype(np.float32), targets


def test_swapped_labels_are_found_and_ranked_first() -> None:
    pytest.importorskip("cleanlab")
    vectors, targets = blobs()
    given = targets.copy()
    wrong = [3, 50, 100]
    given[wrong] = (given[wrong] + 1) % 3
    folds = np.arange(len(given)) % 5
    ranked = rank_suspects(given, predict_out_of_fold(vectors, given, folds, 3))
    assert set(ranked[:3]) == set(wrong)
    assert len(ranked) <= 6


def test_copies_share_a_fold_and_classes_are_spread() -> None:
    rows = [Row(f"{number}", (("oak", "elm")[number % 2],)) for number in range(40)]
    pictures = [row.image if number >= 4 else "0" for number, row in enumerate(rows)]
    folds = deal_folds(rows, pictures, seed=0)
    assert len(set(folds[:4])) == 1
    for label in ("oak", "elm"):
        sizes = np.bincount([f for f, row in zip(folds, rows, strict=True) if row.label == label])
        assert sizes.min() >= 3
    again = deal_folds(rows[::-1], pictures[::-1], seed=0)
    assert set(again) == set(range(5))


def test_vectors_much_closer_than_their_neighbours_are_pairs() -> None:
    vectors = np.random.default_rng(1).standard_normal((300, 32)).astype(np.float32)
    vectors[200] = vectors[10] + 0.1 * vectors[11]
    vectors[201] = vectors[20]
    assert find_close_pairs(vectors) == [(10, 200), (20, 201)]
    assert find_close_pairs(vectors[:1]) == []


def test_an_absent_cleanlab_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    with pytest.raises(DataError, match=r"pip install 'fieldmark\[audit\]'"):
        check_packages()


@pytest.fixture(scope="module")
def table() -> Table:
    images, rows = {}, []
    for number in range(24):
        label = ("oak", "elm")[number % 2]
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 90, (32, 32, 3)) + (150 if label == "oak" else 0)
        out = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
        images[f"{number}.png"] = out.getvalue()
        rows.append(Row(f"{number}.png", (label,)))
    images["bad.png"] = b"no"
    rows += [Row("bad.png", ("elm",)), Row("0.png", ("single",))]
    names = ("elm", "oak", "single")
    return Table(tuple(rows), MemoryStore(images), "drawn", class_names=names)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    classifier, _ = build_classifier(Model(name="resnet20-cifar"), num_classes=2, image_size=32)
    path: Path = tmp_path_factory.mktemp("weights") / "net.pth"
    torch.save(classifier.state_dict(), path)
    return str(path)


def test_a_network_looks_at_every_readable_image(table: Table, weights: str) -> None:
    pytest.importorskip("cleanlab")
    seen: list[tuple[int, int]] = []
    deep = audit_deeply(
        audit_table(table),
        Network("resnet20-cifar", weights),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert deep.num_images == 24 and seen[-1] == (24, 24)
    assert deep.accuracy is not None and deep.accuracy > 0.9
    assert any("single picture" in note for note in deep.notes)
    assert [finding.topic for finding in describe_deep_audit(deep)].count("wrong labels") >= 1


def test_several_labels_per_image_are_not_judged_and_it_says_so(table: Table, weights: str) -> None:
    pytest.importorskip("cleanlab")
    audit = audit_table(replace(table, task="multilabel"))
    deep = audit_deeply(audit, Network("resnet20-cifar", weights))
    assert deep.suspects == () and "one label per image" in deep.notes[0]


def test_a_network_without_weights_names_the_options(table: Table) -> None:
    pytest.importorskip("cleanlab")
    with pytest.raises(WeightsError, match="--weights FILE"):
        audit_deeply(audit_table(table), Network("cnn-baseline"))


def test_a_set_without_readable_images_is_refused(weights: str) -> None:
    pytest.importorskip("cleanlab")
    rows = (Row("a", ("oak",)), Row("b", ("elm",)))
    bad = Table(rows, MemoryStore({"a": b"", "b": b""}), "drawn", class_names=("elm", "oak"))
    with pytest.raises(DataError, match="no image can be read"):
        audit_deeply(audit_table(bad), Network("resnet20-cifar", weights))
