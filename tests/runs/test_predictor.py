from __future__ import annotations

import pytest
from PIL import Image

from fieldmark.data.tags import TagEncoder
from fieldmark.errors import DataError
from fieldmark.runs.predictor import Predictor
from fieldmark.transforms import build_eval_transform

IMAGE = Image.new("RGB", (40, 30), "teal")


def predictor_of(classifier, identity) -> Predictor:
    vocabulary = identity.vocabulary
    encoder = None if vocabulary is None else TagEncoder(vocabulary, identity.model.tags)
    transform = build_eval_transform(identity.transform)
    names = identity.class_names
    return Predictor(classifier, "multiclass", names, transform, encode_tags=encoder)


def numbers(predictor: Predictor, tags: tuple[str, ...] | None = None) -> dict[str, float]:
    return {c.label: c.probability for c in predictor(IMAGE, top=3, tags=tags)}


def test_tags_of_an_image_change_what_is_predicted(build) -> None:
    predictor = predictor_of(*build(tokenizer="whole"))
    with_tags = numbers(predictor, ("hat", "smile"))
    assert with_tags != pytest.approx(numbers(predictor), abs=1e-4)
    assert numbers(predictor, ()) == numbers(predictor, None)


def test_unknown_tags_are_taken(build) -> None:
    for tokenizer in ("whole", "wordpiece"):
        assert sum(numbers(predictor_of(*build(tokenizer=tokenizer)), ("火",)).values()) == (
            pytest.approx(1.0, abs=1e-5)
        )


def test_tags_for_a_network_that_takes_none_are_refused(build) -> None:
    predictor = predictor_of(*build())
    assert len(predictor(IMAGE)) == 3
    with pytest.raises(DataError, match=r"got hat, but this run was trained without tags"):
        predictor(IMAGE, tags=["hat"])
