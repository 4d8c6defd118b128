"""Whatever is in a table, reading it ends in a sound `Table` or in an error for people."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldmark.data.sources import read_table
from fieldmark.data.table import SPLITS, Table
from fieldmark.errors import FieldmarkError
from fieldmark.recipes.schema import Task

NAMES = st.sampled_from(["image", "label", "tags", "split", "group", "path", " image", "Image", ""])
IMAGES = st.sampled_from(
    ["a.jpg", "b.jpg", "c/d.jpg", "c\\d.jpg", " a.jpg ", "a.jpg/x", "x.jpg", "", "link.jpg"]
) | st.sampled_from(["../a.jpg", "/etc/passwd", "http://a/b", "C:\\x", "y" * 300, "z/" * 3000])
LABELS = st.sampled_from(["x", "y", "NA", "", " x", "x;y", "caf\u00e9", "cafe\u0301", "7"])
CELLS = IMAGES | LABELS | st.sampled_from(["train", "val", "dev"]) | st.text(max_size=6)
TASKS = st.sampled_from([None, *get_args(Task)])
VALUES = st.recursive(
    CELLS | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CELLS, inner, max_size=2),
    max_leaves=4,
)
SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def root(make_images) -> Path:
    folder = make_images(["a.jpg", "b.jpg", "c/d.jpg"])
    (folder / "link.jpg").symlink_to("/etc/passwd")
    return folder


def read(path: Path, **options: Any) -> None:
    try:
        table = read_table(path, **options)
    except FieldmarkError as error:
        str(error).encode()
        return
    check(table, labelled=options["labelled"])


def check(table: Table, *, labelled: bool) -> None:
    assert table.rows
    for row in table.rows:
        assert row.image and not row.image.startswith(("/", ".."))
        assert set(row.labels) <= set(table.class_names)
        assert row.split is None or row.split in SPLITS
        assert len(row.labels) == labelled or table.task == "multilabel"
    "".join([*table.notes, *table.class_names]).encode()
    if labelled:
        assert set(table.class_counts()) == set(table.class_names)
        assert len({row.image for row in table.rows}) == len(table.rows)
        assert len(table.class_names) >= 2
        assert table.task != "binary" or len(table.class_names) == 2
    else:
        assert table.class_names == ()


@SETTINGS
@given(
    header=st.lists(NAMES, max_size=6) | st.just(["image", "label", "tags", "split"]),
    records=st.lists(st.lists(CELLS, max_size=6), max_size=6),
    sound=st.lists(st.tuples(IMAGES, LABELS), max_size=6),
    ending=st.sampled_from([".csv", ".tsv"]),
    task=TASKS,
    labelled=st.booleans(),
)
def test_any_separated_values(root, header, records, sound, ending, task, labelled) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter="," if ending == ".csv" else "\t")
    writer.writerows([header, *records, *sound])
    path = root / f"t{ending}"
    path.write_bytes(file.getvalue().encode("utf-8", "replace"))
    read(path, task=task, labelled=labelled)


@SETTINGS
@given(
    data=st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace")),
    ending=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]),
    with_header=st.booleans(),
)
def test_any_bytes(root: Path, data: bytes, ending: str, with_header: bool) -> None:
    path = root / f"t{ending}"
    path.write_bytes(b"image,label\na.jpg,x\n" + data if with_header else data)
    read(path, labelled=True)


@SETTINGS
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"image": IMAGES, "label": LABELS | VALUES},
            optional={"tags": VALUES, "split": VALUES, "group": VALUES},
        )
        | VALUES,
        max_size=6,
    ),
    task=TASKS,
    labelled=st.booleans(),
)
def test_any_json_values(root: Path, rows: list[Any], task: Task | None, labelled: bool) -> None:
    path = root / "t.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    read(path, task=task, labelled=labelled)


@settings(SETTINGS, max_examples=60)
@given(
    images=st.lists(IMAGES | st.none(), min_size=3, max_size=3),
    labels=st.lists(LABELS | st.none(), min_size=3, max_size=3)
    | st.lists(st.integers(-9, 9) | st.none(), min_size=3, max_size=3)
    | st.lists(st.floats() | st.none(), min_size=3, max_size=3)
    | st.lists(st.binary(max_size=3), min_size=3, max_size=3)
    | st.lists(st.datetimes(), min_size=3, max_size=3)
    | st.lists(st.lists(LABELS, max_size=2), min_size=3, max_size=3),
    task=TASKS,
)
def test_any_parquet_columns(root: Path, images, labels, task: Task | None) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = root / "t.parquet"
    pq.write_table(pa.table({"image": pa.array(images, pa.string()), "label": labels}), path)
    read(path, task=task, labelled=True)


# No separators and no dots alone: a text must not lead out of the test's own folder.
WORDS = st.text(max_size=20).filter(lambda text: text.strip(".") and not {"/", "~"} & set(text))
FORMS = st.sampled_from(["sample:", "hf:", "daf:", "torchvision:", "wds:", ""])


@SETTINGS
@given(form=FORMS, word=WORDS)
def test_any_source_text(root: Path, monkeypatch: pytest.MonkeyPatch, form: str, word: str) -> None:
    monkeypatch.chdir(root)
    # Without a network, a name on the Hub would be asked for each time.
    source = f"{form}../{word}" if form == "hf:" else f"{form}{word}"
    with pytest.raises(FieldmarkError):
        read_table(source)
