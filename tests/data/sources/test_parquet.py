from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from fieldmark.data.sources import read_table
from fieldmark.errors import TableError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(folder: Path, **columns: object) -> Path:
    path = folder / "t.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def root(make_images) -> Path:
    return make_images(["a.jpg", "b.jpg", "c.jpg"])


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["NA", "null", "x"], ("NA", "null", "x")),
        ([1, 10, 2], ("1", "10", "2")),
        ([True, False, True], ("False", "True")),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ("x", "y")),
        (pa.array(["x", "y", "x"], pa.large_string()), ("x", "y")),
        (
            [datetime.date(2020, 1, n) for n in (1, 2, 3)],
            ("2020-01-01", "2020-01-02", "2020-01-03"),
        ),
    ],
)
def test_labels_of_any_simple_type_become_text(root: Path, labels, names) -> None:
    path = write(root, image=["a.jpg", "b.jpg", "c.jpg"], label=labels)
    assert read_table(path).class_names == names


def test_lists_are_read_as_tags(root: Path) -> None:
    path = write(root, image=["a.jpg", "b.jpg"], label=["x", "y"], tags=[["u", "v"], None])
    assert [row.tags for row in read_table(path).rows] == [("u", "v"), ()]


def test_missing_values_are_faults_by_row(root: Path) -> None:
    path = write(root, image=["a.jpg", "b.jpg", "c.jpg"], label=[1.5, None, float("nan")])
    with pytest.raises(TableError, match="no label: 2 rows, at row 2, row 3"):
        read_table(path)


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (pa.array([b"\xff", b"\xfe"]), "holds binary, not text"),
        (pa.array([{"bytes": b"x"}, {"bytes": b"y"}]), "is read as hf:"),
        (pa.array([[["a"]], [["b"]]]), "not lists of text"),
    ],
)
def test_columns_that_are_no_text_are_explained(root: Path, column, told: str) -> None:
    with pytest.raises(TableError) as caught:
        read_table(write(root, image=column, label=["x", "y"]))
    assert told in str(caught.value)


def test_text_that_is_not_utf8_is_a_table_error(root: Path) -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xffa")]
    )
    with pytest.raises(TableError, match="cannot be read as a parquet table"):
        read_table(write(root, image=["a.jpg", "b.jpg"], label=broken))


def test_broken_file_is_a_table_error(root: Path) -> None:
    path = write(root, image=["a.jpg", "b.jpg"], label=["x", "y"])
    whole = path.read_bytes()
    for part in (b"", b"not parquet", whole[:-20], whole[:8] + b"\0" * 40 + whole[48:]):
        path.write_bytes(part)
        with pytest.raises(TableError, match="cannot be read as a parquet table"):
            read_table(path)


def test_folder_named_like_a_partition_adds_no_columns(root: Path) -> None:
    folder = root / "label=z"
    folder.mkdir()
    (folder / "a.jpg").touch()
    path = write(folder, image=["a.jpg", "b.jpg"], label=["x", "y"])
    assert read_table(path).class_names == ("x", "y")
