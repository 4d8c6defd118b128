from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fieldmark.data.sources import read_table
from fieldmark.data.table import Table
from fieldmark.errors import TableError, UnsafePathError


def images(table: Table) -> list[str]:
    return [row.image for row in table.rows]


def test_class_folders_give_labels_at_any_depth(make_images) -> None:
    table = read_table(make_images(["oak/1.jpg", "oak/old/deep/2.PNG", "elm/1.jpeg"]))
    assert {row.image: row.label for row in table.rows} == {
        "elm/1.jpeg": "elm",
        "oak/1.jpg": "oak",
        "oak/old/deep/2.PNG": "oak",
    }
    assert table.class_names == ("elm", "oak")
    assert all(row.split is None for row in table.rows)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Valid"])
def test_split_folders_give_splits(make_images, val: str) -> None:
    names = [f"{split}/{label}/1.jpg" for split in ("train", val, "test") for label in "ab"]
    table = read_table(make_images(names))
    found = {row.image.split("/")[0]: row.split for row in table.rows}
    assert found == {"train": "train", val: "val", "test": "test"}
    assert table.class_names == ("a", "b")


def test_class_called_train_is_a_class(make_images) -> None:
    table = read_table(make_images(["train/1.jpg", "bus/1.jpg", "test/1.jpg"]))
    assert table.class_names == ("bus", "test", "train")


def test_folder_beside_splits_is_left_out_with_a_note(make_images) -> None:
    table = read_table(make_images(["train/a/1.jpg", "train/b/1.jpg", "masks/a/1.jpg"]))
    assert table.class_names == ("a", "b")
    assert any("'masks'" in note for note in table.notes)


def test_two_validation_folders_are_told(make_images) -> None:
    table = read_table(make_images(["train/a/1.jpg", "val/b/1.jpg", "valid/a/2.jpg"]))
    assert len(table.select("val")) == 2
    assert any("'val', 'valid' were read as one split" in note for note in table.notes)


def test_numeric_and_odd_class_names_stay_text(make_images) -> None:
    names = ("0", "1", "10", "2", "NA", "null", "007", "1e5", "True")
    table = read_table(make_images(f"{name}/1.png" for name in names))
    assert table.class_names == tuple(sorted(names))


def test_what_is_no_image_is_skipped_and_counted(make_images) -> None:
    hidden = [".ipynb_checkpoints/1.png", "__MACOSX/._1.png", "a/.hidden.png", "a/Thumbs.db"]
    others = ["a/notes.txt", "a/README", "b/photo.heic", "empty/x.txt", "loose.jpg"]
    table = read_table(make_images(["a/1.png", "b/1.png", *hidden, *others]))
    assert images(table) == ["a/1.png", "b/1.png"]
    notes = " ".join(table.notes)
    assert "ending of an image, left out: 4 (.txt 2, .heic 1, none 1)" in notes
    assert "Hidden and system files, left out: 4" in notes
    assert "outside of any class folder, left out: 1 ('loose.jpg')" in notes
    assert "Class folders without images: 1 ('empty')" in notes


def test_two_unicode_spellings_of_a_class_are_one(make_images) -> None:
    table = read_table(make_images(["caf\u00e9/1.png", "cafe\u0301/1.png", "tea/1.png"]))
    assert table.class_counts() == {"caf\u00e9": 2, "tea": 1}
    assert any("several spellings" in note for note in table.notes)
    assert all(table.store.read(row.image) for row in table.rows)


def test_classes_that_differ_in_case_stay_apart_with_a_note(make_images) -> None:
    table = read_table(make_images(["Oak/1.png", "oak/2.png"]))
    assert table.class_names == ("Oak", "oak")
    assert any("differ only in upper and lower case" in note for note in table.notes)


def test_names_that_are_not_utf8_are_left_out_with_a_note(make_images) -> None:
    root = make_images(["a/1.png", "b/1.png"])
    (root / "a" / os.fsdecode(b"\xff.png")).touch()
    table = read_table(root)
    assert images(table) == ["a/1.png", "b/1.png"]
    assert any("not UTF-8" in note for note in table.notes)
    "".join(table.notes).encode()


def test_links_out_of_the_folder_are_refused_together(make_images, tmp_path: Path) -> None:
    make_images(["secret.png", "more/2.png"], "outside")
    root = make_images(["a/1.png", "b/1.png"], "inside")
    (root / "a" / "link.png").symlink_to(tmp_path / "outside" / "secret.png")
    (root / "c").symlink_to(tmp_path / "outside" / "more")
    with pytest.raises(UnsafePathError, match=r"2 links out of the folder: 'a/link.png', 'c'"):
        read_table(root)
    table = read_table(root, allow_outside=True)
    assert images(table) == ["a/1.png", "a/link.png", "b/1.png", "c/2.png"]


def test_links_inside_the_folder_are_read_once(make_images) -> None:
    root = make_images(["train/a/1.png", "train/b/1.png", "store/c/1.png"])
    (root / "train" / "c").symlink_to(root / "store" / "c")
    (root / "train" / "d").symlink_to(root / "store" / "c")
    (root / "train" / "a" / "loop").symlink_to(root / "train")
    (root / "train" / "a" / "same.png").symlink_to(root / "train" / "a" / "1.png")
    table = read_table(root)
    assert images(table) == ["train/a/1.png", "train/a/same.png", "train/b/1.png", "train/c/1.png"]
    assert any(
        "read under another name, left out: 2 ('train/a/loop', 'train/d')" in note
        for note in table.notes
    )


def test_links_to_nowhere_and_pipes_are_reported(make_images) -> None:
    root = make_images(["a/1.png", "b/1.png"])
    (root / "a" / "gone.png").symlink_to("/nonexistent")
    (root / "a" / "self.png").symlink_to("self.png")
    os.mkfifo(root / "a" / "pipe.png")
    notes = " ".join(read_table(root).notes)
    assert "Links that lead nowhere, left out: 2 ('a/gone.png', 'a/self.png')" in notes
    assert "Pipes, sockets and devices, left out: 1 ('a/pipe.png')" in notes


def test_folder_to_predict_gives_every_image_without_labels(make_images) -> None:
    table = read_table(make_images(["1.png", "sub/2.jpg", "sub/x.txt"]), labelled=False)
    assert images(table) == ["1.png", "sub/2.jpg"]
    assert table.class_names == () and {row.labels for row in table.rows} == {()}


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["x.txt"], "holds no images that can be used"),
        (["1.jpg", "2.jpg"], "'1.jpg', '2.jpg'"),
        (["oak/1.jpg"], "every labelled image has the label 'oak'"),
    ],
)
def test_folder_without_two_classes_is_explained(make_images, names: list[str], told: str) -> None:
    with pytest.raises(TableError) as caught:
        read_table(make_images(names))
    assert told in str(caught.value)


def test_binary_task_takes_two_classes(make_images) -> None:
    root = make_images(["a/1.jpg", "b/1.jpg"])
    assert read_table(root, task="binary").task == "binary"
    make_images(["c/1.jpg"])
    with pytest.raises(TableError, match=r"exactly 2 classes, but there are 3: 'a', 'b', 'c'"):
        read_table(root, task="binary")


def test_hostile_folder_is_read_as_its_list_expects(hostile: Path) -> None:
    with pytest.raises(UnsafePathError, match=r"plain/link_out\.png"):
        read_table(hostile / "data")
    table = read_table(hostile / "data", allow_outside=True)
    found, notes = set(images(table)), " ".join(table.notes)
    for quoted, expected in json.loads((hostile / "expected.json").read_text()).items():
        key = os.fsdecode(eval(quoted)) if quoted.startswith("b'") else quoted
        if expected == "sample" and "not-utf8" not in key:
            assert key in found
        if expected == "skip":
            assert key not in found
    for reported in ("none 1", "dangling", "loop", "selfdir", "fifo", "not-utf8", "empty_class"):
        assert reported in notes
    assert "caf\u00e9" in table.class_names and "..hidden" in table.class_names
    assert {"plain/sparse_5GB.png", "plain/noperm.png"} <= found


@pytest.mark.parametrize("extra", ["elm/2.jpg", "other.csv"])
def test_a_table_beside_class_folders_or_another_table_is_not_taken_for_the_folder(
    make_images, extra: str
) -> None:
    root = make_images(["oak/1.jpg", *([extra] if extra.endswith("jpg") else [])])
    for name in ("train.csv", *([extra] if extra.endswith("csv") else [])):
        (root / name).write_text("image,label\noak/1.jpg,a\noak/1.jpg,b\n")
    if extra.endswith("csv"):
        with pytest.raises(TableError, match="at least 2 classes"):
            read_table(root)
    else:
        assert read_table(root).class_names == ("elm", "oak")


def test_a_folder_of_one_table_and_its_images_is_that_table(make_images) -> None:
    root = make_images(["images/1.jpg", "images/2.jpg"])
    (root / "train.csv").write_text("image,label\nimages/1.jpg,oak\nimages/2.jpg,elm\n")
    table = read_table(root)
    assert table.class_names == ("elm", "oak")
    assert table.notes[0].endswith("one table, train.csv, which was read.")
