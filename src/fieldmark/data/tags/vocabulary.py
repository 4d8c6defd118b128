"""`TagVocabulary`: from the tags of an image to token ids and back, and to plain JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal, Self

from fieldmark.data.tags.wordpieces import WordPieces

FORMAT = 1
SPECIALS = ("pad", "mask", "cls", "sep", "unk")
NUM_SPECIALS = len(SPECIALS)
"""[PAD] 0, [MASK] 1, [CLS] 2, [SEP] 3, [UNK] 4; then the tags. Animesion calls 1 [UNUSED]."""


@dataclass(frozen=True)
class TagVocabulary:
    """Token ids of tags: one id per tag (`whole`), or pieces of words (`wordpiece`).

    tags: the tags known from training, in order of first appearance: all that a network can
        propose, and for `whole` all that are not [UNK].
    pieces: what divides words; None for `whole`.
    """

    tokenizer: Literal["whole", "wordpiece"]
    tags: tuple[str, ...]
    pieces: WordPieces | None = None
    pad_id: int = 0
    mask_id: int = 1
    cls_id: int = 2
    sep_id: int = 3
    unk_id: int = 4

    @cached_property
    def size(self) -> int:
        """V: ids are 0 to V - 1."""
        return NUM_SPECIALS + len(self.tags) if self.pieces is None else self.pieces.size

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids that stand for no part of a tag, [UNK] apart."""
        return frozenset((self.pad_id, self.mask_id, self.cls_id, self.sep_id))

    def knows(self, tag: str) -> bool:
        """Whether the tag was kept from training."""
        return tag in self._index

    def encode(self, tags: Sequence[str], max_tokens: int) -> list[int]:
        """Return `max_tokens` ids: [CLS], the first max_tokens - 2 of the tags, [SEP], [PAD]s.

        Word pieces are those of the tags joined by blanks.
        """
        ids = self._divide(tags, max_tokens - 2)[: max_tokens - 2]
        filling = [self.pad_id] * (max_tokens - 2 - len(ids))
        return [self.cls_id, *ids, self.sep_id, *filling]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the tags, or the words joined from their pieces, without [CLS], [SEP], [PAD]."""
        kept = [index for index in ids if index not in self.special_ids]
        if self.pieces is not None:
            return self.pieces.join(kept)
        return ["[UNK]" if i == self.unk_id else self.tags[i - NUM_SPECIALS] for i in kept]

    @cached_property
    def tag_ids(self) -> tuple[tuple[int, ...], ...]:
        """The ids that each of `tags` is written with."""
        return tuple(tuple(self._divide((tag,), None)) for tag in self.tags)

    @cached_property
    def digest(self) -> str:
        """A fingerprint of what the ids mean; weights belong to one vocabulary."""
        text = json.dumps(self.to_json(), sort_keys=True, ensure_ascii=False)
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain values for `from_json`."""
        return {
            "format": FORMAT,
            "tokenizer": self.tokenizer,
            "special_ids": {name: getattr(self, f"{name}_id") for name in SPECIALS},
            "tags": list(self.tags),
            "pieces": None if self.pieces is None else self.pieces.to_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; raise `ValueError`, `TypeError` or `KeyError` otherwise."""
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']!r}, expected {FORMAT}")
        tokenizer, tags, pieces = values["tokenizer"], tuple(values["tags"]), values["pieces"]
        if tokenizer not in ("whole", "wordpiece") or (pieces is None) != (tokenizer == "whole"):
            raise ValueError(f"tokenizer {tokenizer!r} with{'out' * (pieces is None)} pieces")
        if not all(isinstance(tag, str) for tag in tags) or len(set(tags)) < len(tags):
            raise ValueError("tags: expected different texts")
        specials = {f"{name}_id": int(values["special_ids"][name]) for name in SPECIALS}
        if tokenizer == "whole" and tuple(specials.values()) != tuple(range(NUM_SPECIALS)):
            raise ValueError(f"special_ids: expected 0 to {NUM_SPECIALS - 1}")
        divided = None if pieces is None else WordPieces.from_json(pieces)
        found = cls(tokenizer, tags, divided, **specials)
        if not all(0 <= index < found.size for index in specials.values()):
            raise ValueError(f"special_ids: outside the {found.size} entries")
        return found

    @cached_property
    def _index(self) -> Mapping[str, int]:
        return {tag: index for index, tag in enumerate(self.tags, NUM_SPECIALS)}

    def _divide(self, tags: Sequence[str], num_needed: int | None) -> list[int]:
        """Ids of the tags without [CLS] and [SEP]; more than `num_needed` are not asked for."""
        if self.pieces is None:
            return [self._index.get(tag, self.unk_id) for tag in tags[:num_needed]]
        # A word of the user's that is written like a special token must not become one.
        ids = self.pieces.divide(" ".join(tags[:num_needed]))
        return [self.unk_id if index in self.special_ids else index for index in ids]
