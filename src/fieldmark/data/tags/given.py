"""A vocabulary that the recipe names: a file, or a tokenizer on the Hugging Face hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from fieldmark.data.tags.vocabulary import SPECIALS, TagVocabulary
from fieldmark.data.tags.wordpieces import WordPieces, build_wordpieces
from fieldmark.errors import DataError
from fieldmark.hub import UnreachableFileError, fetch_hub_file

_KEY = "model.tags.vocabulary"
_HUB_FILES = ("tokenizer.json", "vocab.txt")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
# What BERT and its relatives call the five; RoBERTa and others write <s>.
_NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "mask": ("[MASK]", "<mask>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "unk": ("[UNK]", "<unk>"),
}


def read_given_vocabulary(name: str, tags: Iterable[str]) -> TagVocabulary:
    """Read a tags.json of a run, a tokenizer.json, a vocab.txt, or a tokenizer of the hub.

    `tags` are those known from training; the tags.json of a run brings its own. Raises
    `DataError` where there is none, or it is none.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        path = _fetch(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{_KEY}: {path} cannot be read as text: {error}") from error
    if path.suffix == ".txt":
        return _with_specials(build_wordpieces(_read_lines(text, path)), tuple(tags), path)
    try:
        values = json.loads(text)
        if "tokenizer" in values and "special_ids" in values:
            return TagVocabulary.from_json(values)
        pieces = WordPieces.from_json(values)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{_KEY}: {path} is no tokenizer.json, no vocab.txt, no tags.json of a run: {error}"
        ) from error
    return _with_specials(pieces, tuple(tags), path)


def _read_lines(text: str, path: Path) -> dict[str, int]:
    """Entry -> id; the id is the number of the line, from 0."""
    lines = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
    entries = {word: index for index, word in enumerate(lines)}
    if len(entries) < len(lines):
        raise DataError(
            f"{_KEY}: {path} has the same entry on several lines; each has one of its own"
        )
    return entries


def _with_specials(pieces: WordPieces, tags: tuple[str, ...], path: Path) -> TagVocabulary:
    found = {
        special: next((i for name in _NAMES[special] if (i := pieces.find(name)) is not None), None)
        for special in SPECIALS
    }
    missing = [_NAMES[special][0] for special, index in found.items() if index is None]
    if missing:
        raise DataError(
            f"{_KEY}: {path} has {pieces.size:,} entries, but none for {', '.join(missing)}. Take "
            "one like BERT's, or leave it out: it is then learned from the training tags"
        )
    ids = {f"{special}_id": index for special, index in found.items() if index is not None}
    return TagVocabulary("wordpiece", tags, pieces, **ids)


def _fetch(name: str) -> Path:
    if Path(name).suffix in (".json", ".txt") or not _HUB_NAME.fullmatch(name):
        raise DataError(
            f"{_KEY}: there is no file {name}. Name a tokenizer.json, a vocab.txt or a run's "
            "best/tags.json, or a tokenizer of the hub such as bert-base-uncased"
        )
    try:
        return fetch_hub_file(name, _HUB_FILES)
    except UnreachableFileError as error:
        raise DataError(
            f"{_KEY}: there is no file of this name here, and the hub's tokenizer '{name}' is not "
            f"on this machine and cannot be fetched ({error}). With a network, this fetches it: "
            f"hf download {name} tokenizer.json. Or leave {_KEY} out: it is then learned from the "
            "training tags"
        ) from error
