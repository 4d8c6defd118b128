"""Words in pieces: a tokenizer of the `tokenizers` library, trained here or given as a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL_WORDS = ("[PAD]", "[MASK]", "[CLS]", "[SEP]", "[UNK]")
_PREFIX = "##"
_THREADS = "TOKENIZERS_PARALLELISM"


@dataclass(frozen=True)
class WordPieces:
    """A tokenizer by its `definition`, the text of a tokenizer.json: JSON, nothing that runs."""

    definition: str

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Take a tokenizer.json as it was read; raise `ValueError` if it is none."""
        found = cls(json.dumps(values, ensure_ascii=False))
        found._tokenizer  # noqa: B018 (built here, so that a faulty one fails here)
        return found

    def to_json(self) -> dict[str, Any]:
        """The contents of a tokenizer.json."""
        return dict(json.loads(self.definition))

    @cached_property
    def size(self) -> int:
        """Entries: ids are 0 to size - 1."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def divide(self, text: str) -> list[int]:
        """The ids of a text, without any that a template would add."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def join(self, ids: Sequence[int]) -> list[str]:
        """The words that the ids spell."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text.split()

    def find(self, word: str) -> int | None:
        """The id of an entry, or None."""
        found: int | None = self._tokenizer.token_to_id(word)
        return found

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        try:
            tokenizer = Tokenizer.from_str(self.definition)
        except Exception as error:  # the library raises nothing more special
            raise ValueError(f"not a tokenizer: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def train_wordpieces(texts: Iterable[str], size: int) -> WordPieces:
    """Learn at most `size` entries from texts, the same from the same texts on every run.

    Left to itself the library numbers continuing letters ("##a") in the order of a hash table
    that changes from run to run, which decides between pairs that are equally frequent, too. So
    they are given to it, sorted, as if they were special tokens, and the result is built anew.
    """
    texts = list(texts)
    specials = [*SPECIAL_WORDS, *(_PREFIX + letter for letter in _continuing_letters(texts))]
    tokenizer = _assemble(models.WordPiece(unk_token=SPECIAL_WORDS[-1]), is_lowercase=True)
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=specials, show_progress=False
    )
    with _one_thread():
        tokenizer.train_from_iterator(texts, trainer)
    return build_wordpieces(tokenizer.get_vocab(with_added_tokens=True))


def build_wordpieces(vocabulary: Mapping[str, int]) -> WordPieces:
    """WordPiece as BERT has it, from entry -> id.

    Letters are made small unless the vocabulary itself has capitals.
    """
    words = [word for word in vocabulary if not word.startswith("[")]
    is_lowercase = all(word == word.lower() for word in words)
    model = models.WordPiece(dict(vocabulary), unk_token=SPECIAL_WORDS[-1])
    return WordPieces.from_json(json.loads(_assemble(model, is_lowercase=is_lowercase).to_str()))


def _assemble(model: models.WordPiece, *, is_lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=is_lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return tokenizer


def _continuing_letters(texts: Iterable[str]) -> list[str]:
    """Every letter that stands in a word behind its first one, sorted."""
    normalizer, divider = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    letters: set[str] = set()
    for part in {part for text in texts for part in text.split()}:
        for word, _ in divider.pre_tokenize_str(normalizer.normalize_str(part)):
            letters.update(word[1:])
    return sorted(letters)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train without threads: loaders fork, and threads do not survive that."""
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before
