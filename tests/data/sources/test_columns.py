from __future__ import annotations

import pytest

from fieldmark.data.sources.columns import choose_columns
from fieldmark.errors import TableError


def choose(names: list[str], columns: dict[str, str] | None = None, *, labelled: bool = True):
    return choose_columns(names, columns or {}, labelled=labelled, source="t.csv")


def test_columns_are_found_by_role_and_others_ignored() -> None:
    names = ["id", "label", "image", "tags", "note"]
    assert choose(names) == {"image": 2, "label": 1, "tags": 3}
    assert choose(names, {"group": "id"}) == {"image": 2, "label": 1, "tags": 3, "group": 0}
    assert choose(names, labelled=False) == {"image": 2, "tags": 3}


@pytest.mark.parametrize(
    ("names", "columns", "told"),
    [
        (["path", "species"], {}, ["--column image=path", "--column label=species", "'species'"]),
        (["Image", "label"], {}, ["--column image=Image"]),
        (["imagge", "label"], {}, ["--column image=imagge"]),
        (["image", "x"], {}, ["say which holds the labels with --column label=NAME"]),
        (["image", "label"], {"tags": "keywrds"}, ["no column 'keywrds'"]),
        (["image", "label"], {"image": "labe"}, ["--column image=image"]),
        (["image", "label", "label"], {}, ["2 columns named 'label'"]),
        (["image", "label"], {"lable": "x"}, ["Did you mean 'label'"]),
        (["image;label"], {}, ["only one column: write the table with ','"]),
        ([], {}, ["Its columns: none"]),
    ],
)
def test_columns_that_are_not_there_are_explained(names, columns, told) -> None:
    with pytest.raises(TableError) as caught:
        choose(names, columns)
    assert all(part in str(caught.value) for part in told)
