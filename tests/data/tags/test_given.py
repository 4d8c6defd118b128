from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from fieldmark import hub
from fieldmark.data.tags import TagVocabulary, build_tag_vocabulary
from fieldmark.errors import DataError, RecipeError
from fieldmark.recipes.schema import Tags

LISTS = [["long hair", "hat"], ["hat"], ["hat", "long hair"]]
BERT = ["[PAD]", "[unused0]", *(f"[unused{n}]" for n in range(1, 99)), "[UNK]", "[CLS]", "[SEP]"]
BERT += ["[MASK]", "long", "hair", "hat", "##s"]


def build(vocabulary: object, tokenizer: str = "wordpiece") -> TagVocabulary:
    return build_tag_vocabulary(Tags(tokenizer=tokenizer, vocabulary=str(vocabulary)), LISTS)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(BERT) + "\n")
    return path


def test_a_vocab_txt_keeps_its_own_ids(bert: Path) -> None:
    found = build(bert)
    assert (found.pad_id, found.unk_id, found.cls_id, found.sep_id, found.mask_id) == (
        *(0, 100, 101, 102, 103),
    )
    assert found.encode(("Long hair", "hats"), 8) == [101, 104, 105, 106, 107, 102, 0, 0]
    assert found.decode([101, 104, 105, 106, 107, 102, 0, 0]) == ["long", "hair", "hats"]
    assert found.tags == ("long hair", "hat")


def test_a_tokenizer_json_gives_the_same(bert: Path, tmp_path: Path) -> None:
    one = build(bert)
    assert one.pieces is not None
    path = tmp_path / "tokenizer.json"
    values = one.pieces.to_json()
    values["truncation"] = {
        "direction": "Right",
        "max_length": 2,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    path.write_text(json.dumps(values))
    tags = ("long hair", "hats")
    assert build(path).encode(tags, 8) == one.encode(tags, 8)


@pytest.mark.parametrize("tokenizer", ["whole", "wordpiece"])
def test_the_vocabulary_of_a_run_can_be_used_again(tokenizer: str, tmp_path: Path) -> None:
    first = build_tag_vocabulary(Tags(tokenizer=tokenizer, min_count=1), [["other", "tags"]])
    path = tmp_path / "tags.json"
    path.write_text(json.dumps(first.to_json()))
    assert build(path, tokenizer) == first
    wrong = "whole" if tokenizer == "wordpiece" else "wordpiece"
    with pytest.raises(RecipeError, match=f"is of tokenizer: {tokenizer}"):
        build(path, wrong)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("tokenizer.json", "{", "no tokenizer.json, no vocab.txt"),
        ("tokenizer.json", "[]", "no tokenizer.json, no vocab.txt"),
        ("tokenizer.json", '{"tokenizer": "whole", "special_ids": {}}', "no tokenizer.json"),
        ("tokenizer.json", b"\xff\xfe", "cannot be read as text"),
        ("vocab.txt", "[PAD]\n[UNK]\nhat\n", r"none for \[MASK\], \[CLS\], \[SEP\]"),
        ("vocab.txt", "[PAD]\nhat\nhat\n", "the same entry"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_named(
    name: str, content: str | bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=told) as caught:
        build(path)
    assert str(path) in str(caught.value) and "model.tags.vocabulary" in str(caught.value)


@pytest.mark.parametrize("name", ["missing/vocab.txt", "tokenizer.json", "not a name", "a/b/c"])
def test_a_missing_file_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(DataError, match="there is no file"):
        build(name)


def test_a_hub_name_without_network_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def absent(*_: object, **__: object) -> str:
        raise hub.errors.LocalEntryNotFoundError("not in the cache")

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(hub, "hf_hub_download", absent)
    monkeypatch.setattr(hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(DataError, match=r"no route to host.*hf download bert-base-uncased"):
        build("bert-base-uncased")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set"):
        build("bert-base-uncased")


def test_a_hub_name_in_the_cache_needs_no_network(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cached(name: str, file: str, **keys: object) -> str:
        assert keys == {"local_files_only": True, "revision": None}
        if file == "tokenizer.json":
            raise hub.errors.LocalEntryNotFoundError("only vocab.txt")
        return str(bert)

    monkeypatch.setattr(hub, "hf_hub_download", cached)
    assert build("bert-base-uncased").size == len(BERT)
