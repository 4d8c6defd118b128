from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from fieldmark.data import samples
from fieldmark.data.sources import read_table
from fieldmark.data.stores import MemoryStore
from fieldmark.errors import TableError


@pytest.mark.parametrize(
    ("form", "size", "num_classes"),
    [("leaves/train.csv", 4897, 40), ("anime", 798, 20), ("emoji/table.csv", 1840, 10)],
)
def test_real_sets_are_read_whole(shared: Path, form: str, size: int, num_classes: int) -> None:
    table = read_table(shared / "data" / form)
    assert (len(table), len(table.class_names), table.notes) == (size, num_classes, ())
    assert table.class_names == tuple(sorted(table.class_names))
    assert all(table.store.read(row.image) for row in (table.rows[0], table.rows[-1]))


def test_real_set_with_given_splits_keeps_them(shared: Path) -> None:
    table = read_table(shared / "data" / "cifar10")
    assert (len(table), len(table.class_names)) == (7000, 10)
    assert [len(table.select(split)) for split in ("train", "val", "test")] == [5000, 0, 2000]


def test_real_set_with_tags_has_rows_without_any(shared: Path) -> None:
    table = read_table(shared / "data" / "emoji" / "table.csv")
    assert sum(row.tags == () for row in table.rows) == 528
    assert table.rows[0].tags == ("happy", "smiley", "emotion")


@pytest.fixture
def few_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw samples of 3 classes and 12 images, to be quick."""
    quick = partial(samples.draw_sample, num_images=12, num_classes=3)
    monkeypatch.setattr(samples, "draw_sample", quick)


@pytest.mark.usefixtures("few_drawings")
@pytest.mark.parametrize("kind", ["leaves", "characters"])
def test_drawn_samples_are_tables(kind: str) -> None:
    table = read_table(f"sample:{kind}")
    assert isinstance(table.store, MemoryStore)
    assert table.source == f"sample:{kind}"
    assert set(table.class_counts()) == set(table.class_names)


@pytest.mark.usefixtures("few_drawings")
def test_drawn_sample_can_be_read_without_labels() -> None:
    table = read_table("sample:characters", labelled=False)
    assert table.class_names == ()
    assert all(row.labels == () and row.tags for row in table.rows)


@pytest.mark.usefixtures("few_drawings")
def test_drawn_sample_of_many_classes_is_not_binary() -> None:
    with pytest.raises(TableError, match="exactly 2 classes"):
        read_table("sample:leaves", task="binary")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("sample:leafs", "Did you mean 'leaves'"),
        ("sampel:leaves", "Did you mean 'sample:leaves'"),
        ("wds:shards/{000..999}.tar", "cannot be read yet"),
        ("https://example.org/leaves.csv", "is a URL"),
        ("", "names no data"),
        ("a\0b", "names no data"),
        ("~nobody-has-this-name/leaves", "no such file or folder"),
        ("x" * 5000, "no such file or folder"),
        ("hf:" + "x" * 5000 + "/../y/z", "named owner/name"),
        ("daf:" + "x" * 5000, "there is no folder"),
    ],
)
def test_unknown_source_is_explained(source: str, told: str) -> None:
    with pytest.raises(TableError) as caught:
        read_table(source)
    assert told in str(caught.value)


def test_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "leaves.csv").touch()
    with pytest.raises(TableError, match=r"Did you mean '.*/leaves\.csv'") as caught:
        read_table(tmp_path / "leafs.csv")
    assert "torchvision:NAME" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("leaf.JPG", "is one image"),
        ("leaves.zip", "unpack it"),
        ("leaves.xlsx", "'.csv', '.tsv', '.jsonl', '.parquet'"),
    ],
)
def test_file_of_another_kind_is_explained(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(TableError) as caught:
        read_table(tmp_path / name)
    assert told in str(caught.value)


def test_path_is_never_taken_for_a_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("oak", "elm"):
        folder = tmp_path / "sample:leaves" / name
        folder.mkdir(parents=True)
        (folder / "1.png").touch()
    assert read_table(Path("sample:leaves")).class_names == ("elm", "oak")


def test_options_without_a_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"--image-root goes with table files, not with a folder"):
        read_table(tmp_path, image_root=tmp_path)
    with pytest.raises(TableError, match=r"--column goes with tables"):
        read_table("sample:leaves", columns={"image": "path"})
    with pytest.raises(TableError, match=r"Did you mean 'image'"):
        read_table(tmp_path, columns={"imge": "path"})


def test_table_remembers_how_it_was_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    path = tmp_path / "t.csv"
    path.write_text("file,label\na.jpg,x\nb.jpg,y\n")
    table = read_table(path, columns={"image": "file"}, image_root=tmp_path, allow_outside=True)
    again = read_table(
        table.source,
        task=table.task,
        columns=table.columns,
        image_root=table.image_root,
        allow_outside=table.allow_outside,
    )
    assert again == table


def test_reading_a_csv_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "t.csv").write_text("image,label\na.jpg,x\nb.jpg,y\n")
    code = (
        "import sys; from fieldmark.data.sources import read_table; read_table(sys.argv[1]); "
        "print([m for m in ('torch', 'pandas', 'pyarrow', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "t.csv"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
