from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fieldmark.data.tags.wordpieces import WordPieces, build_wordpieces, train_wordpieces

TRAIN = """
from fieldmark.data.tags.wordpieces import train_wordpieces
words = [a + b for a in ("blue", "green", "grey", "dark") for b in ("eyes", "hair", "hat", "ish")]
print(train_wordpieces([" ".join(words[i : i + 3]) for i in range(14)], 90).definition)
"""


def test_training_gives_the_same_on_every_run() -> None:
    # In one process hash tables keep their order; the library's differ between processes.
    runs = {
        subprocess.run(
            [sys.executable, "-c", TRAIN], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(3)
    }
    assert len(runs) == 1


def test_the_five_specials_come_first() -> None:
    pieces = train_wordpieces(["long hair", "cat"], 100)
    names = ("[PAD]", "[MASK]", "[CLS]", "[SEP]", "[UNK]")
    assert [pieces.find(name) for name in names] == [0, 1, 2, 3, 4]
    assert pieces.size <= 100


def test_frequent_words_become_one_piece_and_unheard_ones_several() -> None:
    pieces = train_wordpieces(["hair eyes"] * 5 + ["hat"], 100)
    assert len(pieces.divide("hair")) == 1
    assert len(pieces.divide("hairy hate")) > 2
    assert pieces.divide("火") == [4]


def test_letters_are_made_small_unless_the_vocabulary_has_capitals() -> None:
    specials = {"[UNK]": 0}
    assert build_wordpieces({**specials, "hat": 1}).divide("Hat") == [1]
    assert build_wordpieces({**specials, "Hat": 1}).divide("Hat hat") == [1, 0]


def test_training_leaves_no_thread_setting_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    train_wordpieces(["hat"], 100)
    assert "TOKENIZERS_PARALLELISM" not in os.environ
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    train_wordpieces(["hat"], 100)
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


def test_a_file_that_is_no_tokenizer_is_refused() -> None:
    for values in ({}, {"model": {"type": "Magic"}}):
        with pytest.raises(ValueError, match="not a tokenizer"):
            WordPieces.from_json(values)
