from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.data.sources import read_table
from fieldmark.errors import TableError, UnsafePathError


def error_of(path: Path, **options: object) -> str:
    with pytest.raises(TableError) as caught:
        read_table(path, **options)
    return str(caught.value)


def test_every_column_is_read_as_text(write_table) -> None:
    path = write_table(
        "group,image,label,tags,split,extra\n"
        "g1,a.jpg,NA,red; round;;red,train,1\n,b.jpg,007,,Validation,2\ng1,c.jpg,1e5,x,TEST,3\n"
    )
    table = read_table(path)
    assert table.class_names == ("007", "1e5", "NA")
    assert [row.tags for row in table.rows] == [("red", "round"), (), ("x",)]
    assert [row.split for row in table.rows] == ["train", "val", "test"]
    assert [row.group for row in table.rows] == ["g1", None, "g1"]


def test_other_column_names_are_given_by_role(write_table) -> None:
    path = write_table("path,species\na.jpg,oak\nb.jpg,elm\n")
    table = read_table(path, columns={"image": "path", "label": "species"})
    assert table.class_names == ("elm", "oak")


def test_images_are_looked_for_in_the_image_root(write_table, make_images) -> None:
    path = write_table("image,label\n1.jpg,x\n2.jpg,y\n")
    folder = make_images(["1.jpg"], "pictures")
    assert f"--image-root {folder}" in error_of(path)
    assert read_table(path, image_root=folder).store.read("1.jpg") == b"x"
    assert "no such folder" in error_of(path, image_root=folder / "nowhere")


def test_missing_ending_is_suggested(write_table) -> None:
    assert "'a.jpg': write the ending" in error_of(write_table("image,label\na,x\nb,y\n"))


def test_image_without_a_file_stays_in_the_table(write_table) -> None:
    table = read_table(write_table("image,label\na.jpg,x\nmissing.jpg,y\n"))
    assert [row.image for row in table.rows] == ["a.jpg", "missing.jpg"]


def test_all_faults_are_told_at_once(write_table) -> None:
    rows = ["a.jpg,", ",x", "b.jpg,x,trian", "c.jpg,x,train", "c.jpg,y,train"]
    path = write_table("image,label,split\n" + "\n".join(rows) + "\n" + "d.jpg,,test\n" * 6)
    told = error_of(path)
    assert "no label: 7 rows, at line 2, line 7, line 8, line 9, line 10 and 2 more" in told
    assert "no image: 1 row, at line 3" in told
    assert "line 4 ('trian' Did you mean 'train')" in told
    assert "one image with two labels: 1 row, at line 6 ('c.jpg': 'y', in line 5 'x')" in told
    assert "no split, while other rows have one: 2 rows" in told


def test_unsafe_paths_are_refused_with_all_other_faults(write_table) -> None:
    path = write_table("image,label\n../x.jpg,a\nhttp://x/y.jpg,b\na.jpg,\n")
    with pytest.raises(UnsafePathError, match="2 rows") as caught:
        read_table(path)
    assert "line 2" in str(caught.value) and "no label: 1 row" in str(caught.value)


def test_values_in_errors_are_short_and_harmless_for_a_terminal(write_table) -> None:
    told = error_of(write_table("image,label,split\na.jpg,x,\x1b[31m" + "long" * 99 + "\n"))
    assert "'\\x1b[31mlong" in told and "\x1b" not in told and len(told) < 400


def test_repeated_rows_are_kept_once_with_a_note(write_table) -> None:
    path = write_table("image,label,tags\na.jpg,x,red\n./a.jpg,x,blue\nb.jpg,y,\n")
    table = read_table(path)
    assert [row.image for row in table.rows] == ["a.jpg", "b.jpg"]
    assert table.rows[0].tags == ("red", "blue")
    assert any(note.startswith("1 row repeated") for note in table.notes)


@pytest.mark.parametrize("column", ["split", "group"])
def test_one_image_in_two_splits_or_groups_is_a_fault(write_table, column: str) -> None:
    path = write_table(f"image,label,{column}\na.jpg,x,train\na.jpg,x,test\nb.jpg,y,test\n")
    assert f"one image in two {column}s" in error_of(path)


def test_multilabel_rows_hold_any_number_of_labels(write_table) -> None:
    path = write_table("image,label\na.jpg,x; y;x\nb.jpg,\nc.jpg,y\nc.jpg,z\n")
    table = read_table(path, task="multilabel")
    assert [row.labels for row in table.rows] == [("x", "y"), (), ("y", "z")]
    assert table.class_names == ("x", "y", "z") and table.task == "multilabel"
    assert any("1 row without a label" in note for note in table.notes)


def test_semicolon_in_a_multiclass_label_stays_with_a_note(write_table) -> None:
    table = read_table(write_table("image,label\na.jpg,x;y\nb.jpg,y\n"))
    assert table.class_names == ("x;y", "y")
    assert any("--task multilabel" in note for note in table.notes)


def test_blanks_and_unicode_forms_do_not_make_classes(write_table) -> None:
    path = write_table("image,label\na.jpg,caf\u00e9\nb.jpg, cafe\u0301 \nc.jpg,tea\n")
    table = read_table(path)
    assert table.class_counts() == {"caf\u00e9": 2, "tea": 1}
    assert any("several spellings" in note for note in table.notes)


@pytest.mark.parametrize(
    ("content", "task", "told"),
    [
        ("image,label\n", None, "no rows"),
        ("image,label\na.jpg,x\nb.jpg,x\n", None, "every labelled image has the label 'x'"),
        ("image,label\na.jpg,x\nb.jpg,y\nc.jpg,z\n", "binary", "exactly 2 classes"),
        ("image,label\na.jpg,;\n", "multilabel", "no image has a label"),
        ("image,label\nx/1.jpg,x\nx/2.jpg,y\n", None, "none of its 2 images exists"),
    ],
)
def test_table_that_cannot_be_learned_is_explained(write_table, content, task, told) -> None:
    assert told in error_of(write_table(content), task=task)


def test_empty_split_column_means_no_splits(write_table) -> None:
    table = read_table(write_table("image,label,split\na.jpg,x,\nb.jpg,y,\n"))
    assert {row.split for row in table.rows} == {None}


def test_table_to_predict_needs_no_labels_and_keeps_every_row(write_table) -> None:
    path = write_table("image,tags,split\na.jpg,red,??\na.jpg,blue,\nb.jpg,,\n")
    table = read_table(path, labelled=False)
    assert [row.image for row in table.rows] == ["a.jpg", "a.jpg", "b.jpg"]
    assert [row.tags for row in table.rows] == [("red",), ("blue",), ()]
    assert table.class_names == () and {row.labels for row in table.rows} == {()}


def test_hostile_rows_are_refused_by_line(hostile: Path) -> None:
    options = {"columns": {"image": "path"}, "image_root": hostile / "data"}
    with pytest.raises(UnsafePathError) as caught:
        read_table(hostile / "rows.csv", **options)
    assert "not allowed: 8 rows, at line 5 ('../outside/secret.png'" in str(caught.value)
    with pytest.raises(UnsafePathError, match="not allowed: 2 rows"):
        read_table(hostile / "rows.csv", allow_outside=True, **options)
    assert "--column image=path" in error_of(hostile / "rows.csv")
