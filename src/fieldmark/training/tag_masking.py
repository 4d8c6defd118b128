"""Which tags a network must fill in: masked language modelling on tags (Animesion's tagging)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from fieldmark.data.tags.vocabulary import TagVocabulary
from fieldmark.seeds import derive_seed
from fieldmark.training.moments import Moment

Plan = Literal["bert", "full", "sigmoid"]

BERT_SHARE = 0.15
ALL_VISIBLE_UNTIL = 0.1
ALL_MASKED_FROM = 0.5
NOT_ASKED = -100


@dataclass(frozen=True)
class MaskedTags:
    """shown: (B, T) ids as the network sees them. wanted: (B, T) what it is asked, else -100."""

    shown: Tensor
    wanted: Tensor


@dataclass(frozen=True)
class TagMasking:
    """Hides tags by a plan; special ids ([PAD], [CLS], [SEP], [UNK], [MASK]) are never replaced.

    bert: each token with probability 0.15; of the hidden ones 80% become [MASK], 10% another
        token, 10% stay as they are (Devlin et al. 2019, section 3.1).
    full: all of them, always (Animesion's). The network learns to propose tags and never reads
        one, so tags that it is given later say nothing to it.
    sigmoid: none in the first tenth of training, all in its last half, in between a share that
        rises along a cosine (Animesion's scheduler).

    Draws depend on (seed, epoch, batch) alone.
    """

    plan: Plan
    vocabulary: TagVocabulary
    seed: int

    def mask(self, tags: Tensor, moment: Moment) -> MaskedTags:
        """Hide some of the ids (B, T)."""
        generator = torch.Generator()  # of the CPU: equal draws on every device
        generator.manual_seed(derive_seed(self.seed, "tag-masking", moment.epoch, moment.batch))
        draws = torch.rand(tags.shape, generator=generator)  # (B, T)
        is_hidden = (draws < self._share(moment)).to(tags.device) & ~torch.isin(
            tags, self._specials(tags)
        )
        wanted = tags.masked_fill(~is_hidden, NOT_ASKED)
        put = self._replacements(tags, generator)
        return MaskedTags(torch.where(is_hidden, put, tags), wanted)

    def _share(self, moment: Moment) -> float:
        """Probability of each token to be hidden."""
        if self.plan == "full":
            return 1.0
        return BERT_SHARE if self.plan == "bert" else sigmoid_share(moment.share_done)

    def _replacements(self, tags: Tensor, generator: torch.Generator) -> Tensor:
        """What stands in the place of each token, should it be hidden: (B, T)."""
        mask = torch.full_like(tags, self.vocabulary.mask_id)
        every = torch.arange(self.vocabulary.size, device=tags.device)
        ordinary = every[~torch.isin(every, self._specials(tags))]
        if self.plan != "bert" or len(ordinary) == 0:
            return mask
        fate = torch.rand(tags.shape, generator=generator).to(tags.device)
        drawn = torch.randint(len(ordinary), tags.shape, generator=generator).to(tags.device)
        put = torch.where(fate < 0.8, mask, ordinary[drawn])
        return torch.where(fate < 0.9, put, tags)

    def _specials(self, tags: Tensor) -> Tensor:
        ids = [*sorted(self.vocabulary.special_ids), self.vocabulary.unk_id]
        return torch.tensor(ids, device=tags.device)


def sigmoid_share(share_done: float) -> float:
    """Share of tags hidden when this share of training is done: 0, rising along a cosine, 1."""
    span = ALL_MASKED_FROM - ALL_VISIBLE_UNTIL
    place = min(1.0, max(0.0, (share_done - ALL_VISIBLE_UNTIL) / span))
    return 0.5 * (1.0 - math.cos(math.pi * place))


def tag_loss(tag_logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean cross-entropy of the hidden tokens, nats; 0 where none is hidden.

    Logits (B, T, V) and wanted ids (B, T), -100 for tokens that are not asked -> scalar.
    """
    total = functional.cross_entropy(
        tag_logits.flatten(0, 1), wanted.flatten(), ignore_index=NOT_ASKED, reduction="sum"
    )
    return total / (wanted != NOT_ASKED).sum().clamp(min=1)
