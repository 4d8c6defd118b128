from __future__ import annotations

import json
import pickle

import pytest

from fieldmark.data.tags import TagVocabulary, build_tag_vocabulary
from fieldmark.recipes.schema import Tags

LISTS = [["long hair", "smile"], ["smile", "long hair", "hat"], ["hat", "cat ears"]]


def build(tokenizer: str) -> TagVocabulary:
    section = Tags(tokenizer=tokenizer, min_count=1)
    return build_tag_vocabulary(section, LISTS)


def test_whole_ids_are_the_five_specials_and_then_tags_in_order_of_appearance() -> None:
    vocabulary = build("whole")
    assert vocabulary.tags == ("long hair", "smile", "hat", "cat ears")
    assert vocabulary.size == 9
    ids = vocabulary.encode(("cat ears", "unheard of", "smile"), 7)
    assert ids == [2, 8, 4, 6, 3, 0, 0]


@pytest.mark.parametrize("max_tokens", [16, 32, 64])
def test_animesion_keeps_the_first_t_minus_2_tags(max_tokens: int) -> None:
    names = [f"tag {index}" for index in range(100)]
    vocabulary = TagVocabulary("whole", tuple(names))
    ids = vocabulary.encode(names, max_tokens)
    assert ids == [2, *range(5, 5 + max_tokens - 2), 3]


def test_13500_tags_make_13505_entries() -> None:
    assert TagVocabulary("whole", tuple(f"tag {index}" for index in range(13_500))).size == 13_505


def test_word_pieces_are_those_of_the_tags_joined() -> None:
    vocabulary = build("wordpiece")
    ids = vocabulary.encode(("long hair", "smile"), 8)
    assert len(ids) == 8
    assert ids[0] == 2 and 3 in ids
    assert vocabulary.decode(ids) == ["long", "hair", "smile"]


def test_word_pieces_are_cut_off_before_sep() -> None:
    ids = build("wordpiece").encode(("long hair", "smile", "hat"), 4)
    assert (ids[0], ids[3], len(ids)) == (2, 3, 4)


def test_no_tags_are_cls_sep_and_padding() -> None:
    for tokenizer in ("whole", "wordpiece"):
        assert build(tokenizer).encode((), 5) == [2, 3, 0, 0, 0]


def test_decoding_gives_tags_back_without_specials() -> None:
    vocabulary = build("whole")
    ids = vocabulary.encode(("hat", "unheard of", "smile"), 9)
    assert vocabulary.decode(ids) == ["hat", "[UNK]", "smile"]


@pytest.mark.parametrize("tokenizer", ["whole", "wordpiece"])
def test_a_tag_written_like_a_special_token_is_none(tokenizer: str) -> None:
    section = Tags(tokenizer=tokenizer, min_count=1)
    vocabulary = build_tag_vocabulary(section, [["[PAD]", "[SEP]", "hat"]])
    ids = vocabulary.encode(("[PAD]", "[SEP]", "hat"), 16)
    inner = ids[1 : ids.index(3)]
    assert inner and not set(inner) & vocabulary.special_ids
    assert len(inner) >= 3


@pytest.mark.parametrize("tokenizer", ["whole", "wordpiece"])
def test_vocabularies_survive_json_and_processes(tokenizer: str) -> None:
    vocabulary = build(tokenizer)
    vocabulary.encode(("hat",), 4)
    for back in (
        TagVocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))),
        pickle.loads(pickle.dumps(vocabulary)),
    ):
        assert back == vocabulary
        assert back.digest == vocabulary.digest
        assert back.encode(("hat", "long hair"), 9) == vocabulary.encode(("hat", "long hair"), 9)


def test_the_digest_tells_the_order_of_tags() -> None:
    one, other = TagVocabulary("whole", ("a", "b")), TagVocabulary("whole", ("b", "a"))
    assert one.size == other.size and one.digest != other.digest


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"tokenizer": "letters"},
        {"tokenizer": "wordpiece"},
        {"tags": ["a", "a"]},
        {"tags": [1]},
        {"pieces": {"model": {}}, "tokenizer": "wordpiece"},
        {"special_ids": {"pad": 0, "mask": 1, "cls": 2, "sep": 3, "unk": 900}},
        {"special_ids": {}},
    ],
)
def test_changed_json_is_refused(change: dict[str, object]) -> None:
    values = {**build("whole").to_json(), **change}
    with pytest.raises((ValueError, TypeError, KeyError)):
        TagVocabulary.from_json(values)


def test_each_tag_knows_the_ids_it_is_written_with() -> None:
    whole, pieces = build("whole"), build("wordpiece")
    assert whole.tag_ids == ((5,), (6,), (7,), (8,))
    assert [pieces.decode(ids) for ids in pieces.tag_ids] == [
        ["long", "hair"],
        ["smile"],
        ["hat"],
        ["cat", "ears"],
    ]
