from __future__ import annotations

import json

import pytest

from fieldmark.data.sources import read_table
from fieldmark.errors import TableError


def test_values_keep_the_text_they_are_written_in(write_table) -> None:
    lines = [
        '{"image": "a.jpg", "label": 1.0, "tags": ["x", "y;z"]}',
        "",
        '{"label": true, "image": "b.jpg", "tags": null}',
        '{"image": "c.jpg", "label": "\\u2028odd"}',
    ]
    table = read_table(write_table("\r\n".join(lines), "t.jsonl"))
    assert [row.label for row in table.rows] == ["1.0", "true", "\u2028odd"]
    assert [row.tags for row in table.rows] == [("x", "y;z"), (), ()]


def test_lists_are_labels_of_the_multilabel_task(write_table) -> None:
    rows = [{"image": "a.jpg", "label": ["x", "y"]}, {"image": "b.jpg", "label": ["y"]}]
    path = write_table("\n".join(map(json.dumps, rows)), "t.jsonl")
    assert read_table(path, task="multilabel").rows[0].labels == ("x", "y")
    with pytest.raises(TableError, match="a list where one label belongs: 1 row, at line 1"):
        read_table(path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{'image': 'b.jpg'}", "not a JSON object: 1 row, at line 2"),
        ("[1, 2]", "not a JSON object: 1 row, at line 2"),
        ("[" * 100_000, "not a JSON object: 1 row, at line 2 (nested too deeply)"),
        ('{"image": "b.jpg", "label": {"a": 1}}', "line 2 (label)"),
        ('{"image": "b.jpg", "label": "\\ud800"}', "line 2 (label)"),
        ('{"image": ["b.jpg"], "label": "y"}', "a list where one image path belongs: 1 row"),
        ('{"image": "b.jpg"}', "no label: 1 row, at line 2"),
        ('{"image": "b.jpg", "label": ' + "9" * 5000 + "}", ""),
    ],
)
def test_faulty_line_is_named(write_table, line: str, told: str) -> None:
    path = write_table('{"image": "a.jpg", "label": "x"}\n' + line, "t.jsonl")
    if not told:
        assert len(read_table(path)) == 2
        return
    with pytest.raises(TableError) as caught:
        read_table(path)
    assert told in str(caught.value)
