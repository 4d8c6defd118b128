"""The nearest training images are found exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fieldmark.errors import InspectionError
from fieldmark.inspection import neighbours
from fieldmark.inspection.neighbours import find_neighbours, search
from fieldmark.inspection.readings import read_features
from fieldmark.inspection.subject import Subject

MakeSubject = Callable[..., Subject]


def test_the_nearest_neighbour_of_a_copy_is_what_it_copies(make_subject: MakeSubject) -> None:
    (found,) = find_neighbours(make_subject(), ["ash/11.png"], k=3)
    assert [found[0].image, found[0].label] == ["ash/00.png", "ash"]
    assert found[0].similarity == pytest.approx(1.0, abs=1e-5)
    assert len(found) == 3
    assert found[0].similarity >= found[1].similarity >= found[2].similarity


def test_a_training_image_is_not_its_own_neighbour(make_subject: MakeSubject) -> None:
    (found,) = find_neighbours(make_subject(), ["beech/03.png"], k=30)
    assert "beech/03.png" not in {neighbour.image for neighbour in found}
    assert len(found) == 17  # of 18 training images


def test_files_are_asked_about_too(make_subject: MakeSubject, tmp_path: Path) -> None:
    subject = make_subject(head="ifa")
    assert subject.table is not None
    path = tmp_path / "found.png"
    path.write_bytes(subject.table.store.read("cedar/02.png"))
    (found,) = find_neighbours(subject, [str(path)], k=1)
    assert found[0].image == "cedar/02.png"


def test_the_search_by_blocks_equals_sorting_all_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    known = generator.normal(size=(53, 6)).astype(np.float32)
    queries = generator.normal(size=(4, 6)).astype(np.float32)
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    places, cosines = search(queries, known, [-1, 3, -1, 52], 5)
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(known, axis=1)
    every = queries @ known.T / lengths
    every[1, 3] = every[3, 52] = -2
    assert np.array_equal(places, np.argsort(-every, axis=1, kind="stable")[:, :5])
    assert np.allclose(cosines, -np.sort(-every, axis=1)[:, :5], atol=1e-6)


def test_features_are_computed_once(make_subject: MakeSubject) -> None:
    subject = make_subject()
    assert subject.table is not None
    asked = []
    first = read_features(subject, subject.table, count=lambda done, _: asked.append(done))
    again = read_features(subject, subject.table, count=lambda *_: pytest.fail("computed again"))
    assert asked[-1] == len(subject.table) == len(first.images)
    assert np.array_equal(first.values, again.values)


def test_an_unreadable_image_is_left_out_with_its_reason(make_subject: MakeSubject) -> None:
    subject = make_subject()
    table = subject.table
    assert table is not None
    images = dict(table.store.images)  # type: ignore[attr-defined]
    images["beech/00.png"] = b"not an image"
    broken = replace(table, store=type(table.store)(images))  # type: ignore[call-arg]
    found = read_features(subject, broken)
    assert list(found.unreadable) == ["beech/00.png"]
    assert len(found.values) == len(found.images) == len(table) - 1
    with pytest.raises(InspectionError, match=r"beech/00.png: cannot be read"):
        find_neighbours(replace(subject, table=broken), ["beech/00.png"], k=1)


def test_a_run_whose_images_are_gone_says_so(make_subject: MakeSubject) -> None:
    with pytest.raises(InspectionError, match=r"trained on are gone.*Restore drawn"):
        find_neighbours(replace(make_subject(), table=None), ["x.png"], k=1)
