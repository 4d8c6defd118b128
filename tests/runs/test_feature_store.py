"""Stored features come back as they were, or are computed anew and that is said."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from fieldmark.errors import StorageError
from fieldmark.runs import feature_store
from fieldmark.runs.feature_store import FeatureStore, Origin, key_of

ORIGIN = Origin("net", "digest", "transform", "pooled", "fp32", (4,))
KEYS = np.array([key_of(name, "plain") for name in "abcde"], dtype=np.uint64)
FEATURES = torch.arange(20.0).reshape(5, 4) / 7


def fill(root: Path, origin: Origin = ORIGIN) -> FeatureStore:
    store = FeatureStore(root, origin)
    store.add(KEYS, [FEATURES[:2], FEATURES[2:]])
    return store


def reopen(root: Path, origin: Origin = ORIGIN) -> tuple[FeatureStore, list[str]]:
    store = FeatureStore(root, origin)
    return store, store.open()


def only_segment(root: Path) -> Path:
    (segment,) = root.glob("*/segment-*")
    return segment


def test_features_are_found_by_their_keys_in_any_order(tmp_path: Path) -> None:
    fill(tmp_path)
    store, faults = reopen(tmp_path)
    assert faults == []
    rows = store.find(KEYS[[3, 0, 3]])
    assert torch.equal(store.read(rows), FEATURES[[3, 0, 3]])
    assert isinstance(store._features[0], np.memmap)


def test_what_is_not_stored_has_no_row(tmp_path: Path) -> None:
    empty, _ = reopen(tmp_path)
    assert empty.find(KEYS).tolist() == [-1] * 5
    unknown = np.array([[key_of("a", "plain"), key_of("a", "flipped")]], dtype=np.uint64)
    assert fill(tmp_path).find(unknown).tolist() == [[0, -1]]


def test_further_segments_join_the_first(tmp_path: Path) -> None:
    store = fill(tmp_path)
    more = np.array([key_of(name, "plain") for name in "fg"], dtype=np.uint64)
    store.add(more, [-FEATURES[:2]])
    store, _ = reopen(tmp_path)
    keys = np.concatenate([more[1:], KEYS[1:2], more[:1]])
    assert torch.equal(
        store.read(store.find(keys)), torch.stack([-FEATURES[1], FEATURES[1], -FEATURES[0]])
    )


@pytest.mark.parametrize(("precision", "exact"), [("bf16", torch.bfloat16), ("fp16", torch.half)])
def test_features_keep_the_precision_they_were_computed_in(
    precision: str, exact: torch.dtype, tmp_path: Path
) -> None:
    origin = replace(ORIGIN, precision=precision)
    fill(tmp_path, origin)
    store, _ = reopen(tmp_path, origin)
    found = store.read(store.find(KEYS))
    assert found.dtype == torch.float32
    assert torch.equal(found, FEATURES.to(exact).float())
    assert origin.row_bytes == 8


def test_features_of_layers_keep_their_shape(tmp_path: Path) -> None:
    origin = replace(ORIGIN, reads="layers", shape=(4, 3))
    layers = torch.randn(5, 4, 3)
    store = FeatureStore(tmp_path, origin)
    store.add(KEYS, [layers])
    assert torch.equal(store.read(store.find(KEYS)), layers)


@pytest.mark.parametrize("change", [{"weights": "x"}, {"transform": "x"}, {"network": "x"}])
def test_another_origin_is_said_and_never_used(change: dict[str, str], tmp_path: Path) -> None:
    fill(tmp_path)
    store, _ = reopen(tmp_path, replace(ORIGIN, **change))
    assert store.find(KEYS).tolist() == [-1] * 5
    assert f"are of other {next(iter(change))}: they are not used" in str(store.describe_others())
    assert fill(tmp_path).describe_others() is None


def cut(segment: Path) -> None:
    path = segment / "features.npy"
    path.write_bytes(path.read_bytes()[:-30])


def lose_keys(segment: Path) -> None:
    (segment / "keys.npy").unlink()


def spoil_about(segment: Path) -> None:
    (segment / "about.json").write_text("{")


def age(segment: Path) -> None:
    about = json.loads((segment / "about.json").read_text())
    (segment / "about.json").write_text(json.dumps({**about, "format": 0}))


@pytest.mark.parametrize("damage", [cut, lose_keys, spoil_about, age], ids=lambda d: d.__name__)
def test_damaged_segment_is_removed_and_said(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    fill(tmp_path)
    segment = only_segment(tmp_path)
    damage(segment)
    store, faults = reopen(tmp_path)
    assert len(faults) == 1
    assert str(segment) in faults[0] and "computed anew" in faults[0]
    assert not segment.exists()
    assert store.find(KEYS).tolist() == [-1] * 5


def test_segment_that_breaks_off_never_appears(tmp_path: Path) -> None:
    def blocks() -> Iterator[Tensor]:
        yield FEATURES[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FeatureStore(tmp_path, ORIGIN).add(KEYS, blocks())
    assert list(tmp_path.glob("*/*")) == []
    assert list(tmp_path.glob("*/.*")) == []


def test_too_full_a_disk_is_told_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store.shutil, "disk_usage", lambda _: SimpleNamespace(free=79))
    with pytest.raises(StorageError, match=r"need 80 bytes, and 79 are free.*views=0"):
        FeatureStore(tmp_path, ORIGIN).add(KEYS, iter([]))


def test_disk_that_fills_up_meanwhile_is_told_and_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_store.np, "save", no_space)
    with pytest.raises(StorageError, match=r"No space left on device.*80 bytes"):
        fill(tmp_path)
    assert list(tmp_path.glob("*/.*")) == []
