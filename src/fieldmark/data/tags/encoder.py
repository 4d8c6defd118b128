"""`TagEncoder`: the tags of one image as token ids; and what a table must have for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fieldmark.data.table import Table
from fieldmark.data.tags.cleaning import UNLABELED, tidy_tags
from fieldmark.data.tags.vocabulary import TagVocabulary
from fieldmark.errors import DataError
from fieldmark.recipes.schema import Tags


@dataclass(frozen=True)
class TagEncoder:
    """Encodes the tags of one image as `section` says; the same in training and prediction.

    trims: columns that are padding in a whole batch may be left out of it.
    """

    vocabulary: TagVocabulary
    section: Tags
    trims: bool = True

    @property
    def max_tokens(self) -> int:
        """T."""
        return self.section.max_tokens

    def __call__(self, tags: Sequence[str] | None, seed: int | None = None) -> Tensor:
        """Return (T,) int64 token ids.

        A seed means training: from it alone is drawn whether the tags are hidden (`hide`) and, with
        `shuffle`, their order. Hidden tags are as no tags, and those are padding through and
        through: attention, which leaves padding out, then sees the image alone. Where padding is
        attended to (`mask_padding` off, as published) they are [CLS] [SEP] and padding, with
        `clean` Animesion's tag "unlabeled" between. With `clean` unknown tags are dropped, as its
        pipeline drops rare ones; else they are [UNK] or, as word pieces, spelled.
        """
        chosen = tuple(tags or ())
        if seed is not None:
            chosen = self._draw(chosen, seed)
        return torch.tensor(self._encode(chosen), dtype=torch.int64)

    def trim(self, tags: Tensor) -> Tensor:
        """Drop the last columns of (B, T) that are padding in every row, down to one column.

        Only where attention leaves padding out, so that it changes nothing but the cost.
        """
        if not (self.trims and self.section.mask_padding):
            return tags
        used = (tags != self.vocabulary.pad_id).any(dim=0).nonzero()
        return tags[:, : int(used[-1]) + 1 if len(used) else 1]

    def all_masked(self) -> Tensor:
        """Return (T,) int64: [CLS], [MASK] for every tag, [SEP]: the question which tags fit."""
        masks = [self.vocabulary.mask_id] * (self.max_tokens - 2)
        ids = [self.vocabulary.cls_id, *masks, self.vocabulary.sep_id]
        return torch.tensor(ids, dtype=torch.int64)

    def _draw(self, tags: tuple[str, ...], seed: int) -> tuple[str, ...]:
        # NumPy promises the raw bits of a generator for all versions, but no distribution.
        first, *rest = np.random.PCG64(seed).random_raw(1 + len(tags))
        if int(first) < self.section.hide * 2**64:
            return ()
        if not self.section.shuffle:
            return tags
        return tuple(tags[index] for index in np.argsort(np.array(rest), kind="stable"))

    def _encode(self, tags: tuple[str, ...]) -> list[int]:
        if self.section.clean:
            tags = tuple(tag for tag in tidy_tags(tags) if self.vocabulary.knows(tag))
        if not tags and self.section.mask_padding:
            return [self.vocabulary.pad_id] * self.max_tokens
        if not tags and self.section.clean:
            tags = (UNLABELED,)
        return self.vocabulary.encode(tags, self.max_tokens)


def check_tags(table: Table, section: Tags) -> str | None:
    """Return a note where some rows have no tags, None where all have.

    Raises `DataError` where no row, or in a table with splits no training row, has any.
    """
    if section.tokenizer == "off":
        return None
    in_training = [row for row in table.rows if row.split == "train"] or table.rows
    if not any(row.tags for row in in_training):
        raise DataError(
            f"{table.source}: model.tags is {section.tokenizer}, but not one of the "
            f"{len(in_training):,} training images has tags. Give them in a column 'tags', with "
            "';' between them (--column tags=NAME for another name), or set model.tags=off"
        )
    bare = sum(not row.tags for row in table.rows)
    if not bare:
        return None
    return (
        f"{bare:,} of {len(table):,} images have no tags: of them the network sees the image alone."
    )
