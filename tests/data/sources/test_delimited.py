from __future__ import annotations

import pytest

from fieldmark.data.sources import read_table
from fieldmark.errors import TableError

PLAIN = "image,label\na.jpg,x\nb.jpg,y\n"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (PLAIN, "t.csv"),
        (PLAIN, "T.CSV"),
        ("\ufeff" + PLAIN, "t.csv"),
        (PLAIN.replace("\n", "\r\n"), "t.csv"),
        (PLAIN.replace("\n", "\r"), "t.csv"),
        (PLAIN.replace(",", "\t"), "t.tsv"),
        (PLAIN.rstrip(), "t.csv"),
        (PLAIN.replace("image", '"image "'), "t.csv"),
        (PLAIN + "\n,,\n\n", "t.csv"),
        ("image,label,,\na.jpg,x,,\nb.jpg,y,,\n", "t.csv"),
    ],
)
def test_every_dialect_of_spreadsheets_is_read(write_table, content: str, name: str) -> None:
    table = read_table(write_table(content, name))
    assert [(row.image, row.label) for row in table.rows] == [("a.jpg", "x"), ("b.jpg", "y")]


def test_quoted_values_may_hold_separators_and_line_breaks(write_table) -> None:
    path = write_table('image,label\na.jpg,"x, ""the\nfirst"""\nb.jpg,y\n')
    assert read_table(path).class_names == ('x, "the\nfirst"', "y")


def test_places_are_lines_of_the_file(write_table) -> None:
    path = write_table('image,label\n\na.jpg,"x\ny"\nb.jpg,\n')
    with pytest.raises(TableError, match="no label: 1 row, at line 5"):
        read_table(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"image,label\na.jpg,caf\xe9\n", "line 2: not UTF-8 text (byte 0xe9)"),
        (PLAIN.encode("utf-16"), "line 1: not UTF-8"),
        ('image,label\na.jpg,"x\nb.jpg,y\n', "line 2: unexpected end of data"),
        ('image,label\na.jpg,"x"y\n', "line 2: "),
        ("image,label\na.jpg,x\nb.jpg,y,z\n", "more values than the header has columns: 1 row"),
        ("image,label\na.jpg,x\nb.jpg\n", "no label: 1 row, at line 3"),
        ("image,label\na.jpg," + "x" * 200_000 + "\n", "line 2: field larger"),
        ("", "Its columns: none"),
    ],
)
def test_broken_text_is_explained_with_its_line(write_table, content, told: str) -> None:
    with pytest.raises(TableError) as caught:
        read_table(write_table(content))
    assert told in str(caught.value)
