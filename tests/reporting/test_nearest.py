"""The search for training images like a mistake, on a tiny run that was never trained."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fieldmark.data.table import Table
from fieldmark.reporting import nearest
from fieldmark.reporting.mistakes import name_mistakes
from fieldmark.reporting.nearest import NUM_NEAREST, Nearest, find_nearest
from fieldmark.runs.folder import RunFolder
from fieldmark.training.session import train_run

pytest.importorskip(
    "fieldmark.inspection.neighbours", reason="fieldmark.inspection.neighbours is not here yet"
)


@pytest.fixture(scope="module")
def table(drawn: SimpleNamespace) -> Table:
    return drawn.draw_table(["red", "green", "blue"], 100)


@pytest.fixture(scope="module")
def folder(table: Table, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    from fieldmark.recipes import read_recipe

    changes = ["model.name=resnet10t", "model.pretrained=false", "optim.epochs=0"]
    recipe = read_recipe("quick", [*changes, "data.image_size=32", "precision=fp32"])
    path = tmp_path_factory.mktemp("runs") / "run"
    return train_run(table, recipe, path, listener=lambda _event: None)


def test_the_nearest_are_training_images_nearest_first(folder: RunFolder, table: Table) -> None:
    own = folder.restore_table(table)
    asked = [row.image for row in own.rows if row.split == "test"][:3]
    found = find_nearest(folder, own, asked, seconds=60)
    assert isinstance(found, Nearest)
    train = {row.image for row in own.rows if row.split == "train"}
    assert found.num_searched == found.num_train == len(train)
    for image in asked:
        near = found.of[image]
        assert len(near) == NUM_NEAREST and {one.image for one in near} <= train
        cosines = [one.similarity for one in near]
        assert cosines == sorted(cosines, reverse=True) and cosines[0] <= 1 + 1e-5


def test_a_search_goes_on_where_it_stopped_and_is_fair_to_classes(
    folder: RunFolder, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = folder.restore_table(table)
    monkeypatch.setattr(nearest, "MAX_SEARCHED", 9)
    monkeypatch.setattr(nearest, "_CHUNK", 4)
    asked = [row.image for row in own.rows if row.split == "test"][:1]
    found = find_nearest(folder, own, asked, seconds=60)
    assert isinstance(found, Nearest) and found.num_searched == 12 < found.num_train
    assert isinstance(find_nearest(folder, own, asked, seconds=0), str)
    turns = nearest._in_turns([row for row in own.rows if row.split == "train"])
    assert {row.label for row in turns[:3]} == {"red", "green", "blue"}


def test_a_run_without_weights_says_so(
    drawn: SimpleNamespace, table: Table, tmp_path: Path
) -> None:
    bare = drawn.save_run(tmp_path / "bare", table)
    mistakes = name_mistakes(drawn.predict_test(bare, table, skill=2.0))
    found = find_nearest(bare, table, mistakes, seconds=5)
    assert isinstance(found, str) and "has no weights yet" in found
