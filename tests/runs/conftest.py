"""A small network that takes tags, with all that prediction needs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fieldmark.data.tags import build_tag_vocabulary
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.recipes.schema import Data, Model, Statistics
from fieldmark.runs.best import Identity
from fieldmark.seeds import derive_seed
from fieldmark.transforms import build_transform_record

TAG_LISTS = (("long hair", "hat"), ("hat", "smile"), ("smile", "cat ears"))
Build = Callable[..., tuple[Classifier, Identity]]


@pytest.fixture
def build() -> Build:
    """Returns a classifier and its identity; keys are those of `model.tags`."""

    def make(**tags: object) -> tuple[Classifier, Identity]:
        torch.manual_seed(derive_seed("tagged"))
        section = {"max_tokens": 8, "min_count": 1, **tags}
        model = Model(name="test_vit", tags=section)
        vocabulary = (
            None if "tokenizer" not in tags else build_tag_vocabulary(model.tags, TAG_LISTS)
        )
        classifier, _ = build_classifier(
            model,
            num_classes=3,
            image_size=32,
            tag_vocabulary_size=0 if vocabulary is None else vocabulary.size,
        )
        statistics = Statistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        record = build_transform_record(
            Data(image_size=32),
            model_statistics=statistics,
            dataset_statistics=lambda: statistics,
            interpolation="bicubic",
        )
        identity = Identity("multiclass", ("ash", "beech", "cedar"), model, record, vocabulary)
        return classifier.eval(), identity

    return make
