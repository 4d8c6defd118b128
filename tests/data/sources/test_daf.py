from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.data.sources import read_table
from fieldmark.errors import TableError, UnsafePathError

TAGS_HEADER = "id,dir,class_id,tags_cat0,tags_cat3,tags_cat4\n"


@pytest.fixture
def daf(make_images) -> Path:
    """Two images of each of three classes, in the exact form of the released files."""
    names = ["0001/1001.jpg", "0002/1002.jpg", "0003/1003.jpg", "0010/2010.jpg"]
    make_images([f"fullMin256/{name}" for name in names])
    root = make_images([f"faces/{name}" for name in names])
    labels = root / "labels"
    labels.mkdir()
    labels.joinpath("classid_classname.csv").write_text("0,saber\n2,hatsune_miku\n10,1\n")
    labels.joinpath("train.csv").write_text("0,0001/1001.jpg\n2,0002/1002.jpg\n")
    labels.joinpath("val.csv").write_text("10,0003/1003.jpg\n")
    labels.joinpath("test.csv").write_text("2,0010/2010.jpg\n")
    labels.joinpath("train_tags.csv").write_text(
        TAGS_HEADER
        + "1002,0002/1002.jpg,2,\"['long_hair', 'twintails']\",\"['vocaloid']\",['hatsune_miku']\n"
        + '1001,0001/1001.jpg,0,"[\'o\\\'clock\', "":d""]",[],[\'saber\']\n'
    )
    labels.joinpath("val_tags.csv").write_text(TAGS_HEADER + "1003,0003/1003.jpg,10,[],[],[]\n")
    return root


def test_classes_are_in_the_order_of_their_ids_and_splits_are_given(daf: Path) -> None:
    table = read_table(f"daf:{daf}", task="multiclass")
    assert table.class_names == ("saber", "hatsune_miku", "1")
    assert [(row.image, row.label, row.split) for row in table.rows] == [
        ("0001/1001.jpg", "saber", "train"),
        ("0002/1002.jpg", "hatsune_miku", "train"),
        ("0003/1003.jpg", "1", "val"),
        ("0010/2010.jpg", "hatsune_miku", "test"),
    ]


def test_tags_of_category_0_belong_to_their_image(daf: Path) -> None:
    tags = [row.tags for row in read_table(f"daf:{daf}").rows]
    assert tags == [("o'clock", ":d"), ("long_hair", "twintails"), (), None]


def test_whole_pictures_lie_in_another_folder(daf: Path) -> None:
    (daf / "fullMin256" / "0001" / "1001.jpg").write_bytes(b"whole")
    assert read_table(f"daf:{daf}:full").store.read("0001/1001.jpg") == b"whole"
    assert read_table(f"daf:{daf}").store.read("0001/1001.jpg") == b"x"


def test_moeimouto_has_no_validation_split(make_images) -> None:
    names = ["190_kawashima_ami/face_1_2_3.png", "073_subaru/face_4_5_6.png"]
    root = make_images([f"data/{name}" for name in names])
    root.joinpath("classid_classname.csv").write_text("0,190_kawashima_ami\n1,073_subaru\n")
    root.joinpath("train.csv").write_text(f"0,{names[0]}\n")
    root.joinpath("test.csv").write_text(f"1,{names[1]}\n")
    table = read_table(f"daf:{root}:moeimouto")
    assert [row.split for row in table.rows] == ["train", "test"]
    assert table.class_names == ("190_kawashima_ami", "073_subaru")
    assert any("no validation split" in note for note in table.notes)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("train.csv", "0,0001/1001.jpg\n7,0002/1002.jpg\n", "without a name: 1 row, at line 2 (7)"),
        ("train.csv", "x,0001/1001.jpg\n0\n", "not 'class id, path': 2 rows"),
        ("train.csv", '0,"0001\n', "line 1: unexpected end of data"),
        ("train.csv", b"0,\xff\n", "not UTF-8"),
        ("classid_classname.csv", "0,a\n0,b\n1,a\n", "at line 2, line 3"),
        ("train_tags.csv", "id,dir\n", "no column 'tags_cat0'"),
        ("train_tags.csv", TAGS_HEADER + "1,d,0,open('x'),[],[]\n", "texts: 1 row, at line 2"),
        ("train_tags.csv", TAGS_HEADER + "1,d,0,[1],[],[]\n", "not a Python list of texts"),
        ("train_tags.csv", TAGS_HEADER + "1,d,0," + "[" * 5000 + ",[],[]\n", "not a Python list"),
    ],
)  # fmt: skip
def test_faulty_file_is_named_with_its_lines(daf: Path, file: str, content, told: str) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    daf.joinpath("labels", file).write_bytes(data)
    with pytest.raises(TableError) as caught:
        read_table(f"daf:{daf}")
    assert told in str(caught.value) and file in str(caught.value)


def test_missing_parts_of_the_layout_are_explained(daf: Path, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="Did you mean 'moeimouto'"):
        read_table(f"daf:{daf}:moeimoto")
    with pytest.raises(TableError, match="'data' \\(daf:ROOT:moeimouto\\)"):
        read_table(f"daf:{daf}:moeimouto")
    (daf / "labels" / "val.csv").unlink()
    with pytest.raises(TableError, match=r"val\.csv: this file of the DAF layout is missing"):
        read_table(f"daf:{daf}")


def test_paths_may_not_leave_the_images(daf: Path) -> None:
    daf.joinpath("labels", "test.csv").write_text("2,../labels/x.jpg\n")
    with pytest.raises(UnsafePathError, match="leaves the image folder"):
        read_table(f"daf:{daf}")
