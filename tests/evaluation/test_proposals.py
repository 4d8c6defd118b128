from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.data.tags import TagEncoder, TagVocabulary, build_tag_vocabulary
from fieldmark.errors import FieldmarkError, RunError
from fieldmark.evaluation.proposals import TagScorer, propose_tags
from fieldmark.models.classifier import Outputs
from fieldmark.models.features import Features
from fieldmark.recipes.schema import Tags
from fieldmark.runs.predictor import Predictor

NAMES = ("red", "green", "blue", "dark")


def encode(color: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8), color).save(file, "PNG")
    return file.getvalue()


@dataclass
class ColorNet(nn.Module):
    """Says at every place the colour of the image; notes what tags it was shown."""

    size: int
    shown: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        nn.Module.__init__(self)

    def __hash__(self) -> int:
        return id(self)

    def forward(self, images: Tensor, tags: Tensor, *, full: bool) -> Outputs:
        self.shown.append(tags)
        logits = torch.zeros(len(images), tags.shape[1], self.size)
        logits[:, :, 5:8] = 4.0 * images.mean(dim=(2, 3))[:, None, :]
        logits[:, 0] = logits[:, -1] = 99.0 * torch.eye(self.size)[8]  # at [CLS] and [SEP]
        features = Features(pooled=images.mean(dim=(2, 3)), tokens=images, grid=(1, 1))
        return Outputs(logits[:, 0, :3], features, tag_logits=logits)


def build(**keys: object) -> Predictor:
    section = Tags(**{"tokenizer": "whole", "max_tokens": 6, "propose": "full", **keys})
    vocabulary = TagVocabulary("whole", NAMES)
    return Predictor(
        ColorNet(vocabulary.size),
        "multiclass",
        ("a", "b", "c"),
        lambda pixels: torch.tensor(pixels[0, 0])[:, None, None].expand(3, 8, 8) / 255,
        encode_tags=TagEncoder(vocabulary, section),
    )


def table_of(*colors: str) -> Table:
    images = {f"{c}.png": encode(c) for c in colors if c != "broken"}
    rows = tuple(Row(f"{c}.png", ("a",), ("dark",)) for c in colors)
    return Table(rows, MemoryStore(images), "drawn", class_names=("a", "b", "c"))


def test_most_likely_tags_come_first_and_rows_keep_their_order() -> None:
    proposed = propose_tags(build(), table_of("red", "broken", "blue", "lime"), 2)
    assert [tags[0].tag if tags else None for tags in proposed] == ["red", None, "blue", "green"]
    assert [len(tags) for tags in proposed] == [2, 0, 2, 2]
    first, second = proposed[0]
    assert 1.0 > first.share > second.share > 0.0


def test_network_sees_masks_only_and_cls_and_sep_do_not_answer() -> None:
    predictor = build()
    proposed = propose_tags(predictor, table_of("red"), 10)
    assert predictor.classifier.shown[0].tolist() == [[2, 1, 1, 1, 1, 3]]
    assert len(proposed[0]) == len(NAMES), "never more than there are"
    assert proposed[0][0].tag == "red"


def test_share_is_the_mean_probability_over_the_places() -> None:
    tag = propose_tags(build(), table_of("red"), 1)[0][0]
    logits = torch.zeros(9)
    logits[5] = 4.0
    assert tag.share == pytest.approx(logits.softmax(dim=0)[5].item(), abs=1e-6)


def test_a_tag_in_pieces_has_the_geometric_mean_of_its_pieces() -> None:
    section = Tags(tokenizer="wordpiece", min_count=1)
    vocabulary = build_tag_vocabulary(section, [["long hair", "hat"]])
    probability = torch.full((1, vocabulary.size), 1e-6)
    (long, hair), (hat,) = vocabulary.tag_ids
    probability[0, [long, hair, hat]] = torch.tensor([0.4, 0.1, 0.3])
    assert TagScorer(vocabulary)(probability)[0].tolist() == pytest.approx([0.2, 0.3], abs=1e-6)


def test_progress_counts_unreadable_images_too() -> None:
    seen: list[tuple[int, int]] = []
    propose_tags(build(), table_of("red", "broken"), 1, progress=lambda *p: seen.append(p))
    assert seen[-1] == (2, 2)


def test_a_run_that_did_not_learn_to_propose_says_so() -> None:
    with pytest.raises(RunError, match=r"trained with model\.tags\.propose=off"):
        propose_tags(build(propose="off"), table_of("red"), 3)
    with pytest.raises(FieldmarkError, match="from 1, not 0"):
        propose_tags(build(), table_of("red"), 0)
