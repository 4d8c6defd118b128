"""Tags that a network proposes for images, by filling in what is masked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fieldmark.data.loaders import build_loader
from fieldmark.data.table import Table
from fieldmark.data.tags import TagEncoder, TagVocabulary
from fieldmark.errors import FieldmarkError, RunError
from fieldmark.runs.predictor import Predictor

MAX_BATCH_SIZE = 64
MAX_LOGITS = 2**26
"""Most numbers (B, T, V) at a time: a quarter of a gigabyte."""


@dataclass(frozen=True)
class ProposedTag:
    """A tag and the mean probability, over all places for a tag, that it stands there."""

    tag: str
    share: float


def propose_tags(
    predictor: Predictor,
    table: Table,
    count: int,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[ProposedTag, ...]]:
    """Return the `count` most likely tags of each row, none where the image cannot be read.

    The network sees the image and T - 2 masked tags at once, and its answers are averaged over
    them: the order of tags means nothing. A tag in pieces gets the geometric mean of its pieces.
    Only tags known from training are proposed. Raises `RunError` for a run that has not learned
    to, and `DataError` or `TableError` as `build_loader` does.
    """
    if count < 1:
        raise FieldmarkError(f"tags: expected a number of tags from 1, not {count}")
    encoder = find_proposing(predictor)
    question = encoder.all_masked()[None].to(predictor.device)  # (1, T)
    score = TagScorer(encoder.vocabulary, predictor.device)
    tags = encoder.vocabulary.tags
    num_logits = encoder.max_tokens * encoder.vocabulary.size
    batch_size = max(1, min(MAX_BATCH_SIZE, MAX_LOGITS // num_logits))
    loader = build_loader(
        table, predictor.transform, batch_size=batch_size, order=None, seed=0, num_workers=0
    )
    proposed: list[tuple[ProposedTag, ...]] = [()] * len(table)
    done = 0
    for batch in loader.epoch(0):
        if len(batch):
            scores = score(_ask(predictor, batch.images, question)).cpu()  # (B, tags)
            best = scores.topk(min(count, len(tags)), dim=1)
            for position, values, places in zip(
                batch.positions.tolist(), best.values.tolist(), best.indices.tolist(), strict=True
            ):
                pairs = zip(places, values, strict=True)
                proposed[position] = tuple(ProposedTag(tags[i], share) for i, share in pairs)
        done += len(batch) + len(batch.unreadable)
        if progress is not None:
            progress(done, len(table))
    return proposed


def find_proposing(predictor: Predictor) -> TagEncoder:
    """The encoder of a run that proposes tags; raises `RunError` for any other."""
    encoder = predictor.encode_tags
    if encoder is None or encoder.section.propose == "off":
        took = "without tags" if encoder is None else "with model.tags.propose=off"
        raise RunError(
            f"--tags: this run was trained {took}, so it cannot propose any. Train one with "
            "model.tags.tokenizer=whole model.tags.propose=full"
        )
    return encoder


@torch.inference_mode()
def _ask(predictor: Predictor, images: Tensor, question: Tensor) -> Tensor:
    """Images (B, 3, H, W) and a question (1, T) -> (B, V) mean probability of each id."""
    ids = question.expand(len(images), -1)
    outputs = predictor.classifier(images.to(predictor.device), ids, full=True)
    assert outputs.tag_logits is not None
    answers = outputs.tag_logits[:, 1:-1].float()  # (B, T - 2, V): not at [CLS] and [SEP]
    probability: Tensor = answers.softmax(dim=2).mean(dim=1)  # (B, V)
    return probability


class TagScorer:
    """From probabilities of ids (B, V) to scores of tags (B, tags)."""

    def __init__(self, vocabulary: TagVocabulary, device: str = "cpu") -> None:
        pieces = vocabulary.tag_ids
        longest = max(map(len, pieces))
        rows = [[*ids, *[0] * (longest - len(ids))] for ids in pieces]
        self._ids = torch.tensor(rows, device=device)  # (tags, pieces)
        self._lengths = torch.tensor([max(1, len(ids)) for ids in pieces], device=device)
        places = torch.arange(longest, device=device)
        self._is_piece = places < torch.tensor([len(i) for i in pieces], device=device)[:, None]

    def __call__(self, probability: Tensor) -> Tensor:
        """The geometric mean over the pieces of each tag; 0 for a tag without any."""
        logs = probability.clamp_min(torch.finfo(probability.dtype).tiny).log()
        sums = torch.zeros(len(probability), len(self._ids), device=probability.device)
        for place in range(self._ids.shape[1]):  # one piece at a time: (B, tags), not times pieces
            sums += logs[:, self._ids[:, place]] * self._is_piece[:, place]
        means = (sums / self._lengths).exp()
        return means * self._is_piece[:, 0]
