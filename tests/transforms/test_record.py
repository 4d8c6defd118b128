from __future__ import annotations

import json

import pytest

from fieldmark.errors import ModelError, RunError
from fieldmark.recipes.schema import Augment, Data, Statistics
from fieldmark.transforms import TransformRecord, build_transform_record

OF_MODEL = Statistics(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
OF_DATASET = Statistics(mean=(0.7, 0.8, 0.9), std=(0.3, 0.2, 0.1))


def build(data: Data, interpolation: str = "bicubic") -> TransformRecord:
    return build_transform_record(
        data,
        model_statistics=OF_MODEL,
        dataset_statistics=lambda: OF_DATASET,
        interpolation=interpolation,
    )


@pytest.mark.parametrize(
    ("normalize", "mean", "std"),
    [
        ("model", OF_MODEL.mean, OF_MODEL.std),
        ("dataset", OF_DATASET.mean, OF_DATASET.std),
        ("half", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("none", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        (Statistics(mean=(0, 0, 0), std=(2, 2, 2)), (0.0, 0.0, 0.0), (2.0, 2.0, 2.0)),
    ],
)
def test_normalize_is_resolved_to_numbers(normalize, mean, std):
    record = build(Data(normalize=normalize))

    assert (record.mean, record.std) == (mean, std)


def test_the_dataset_is_measured_only_where_asked_for():
    def refuse() -> Statistics:
        raise AssertionError("the training split was read for nothing")

    record = build_transform_record(
        Data(normalize="half"),
        model_statistics=OF_MODEL,
        dataset_statistics=refuse,
        interpolation="bilinear",
    )

    assert record.mean == (0.5, 0.5, 0.5)


def test_record_takes_the_rest_from_the_recipe():
    augment = Augment(crop="resized", horizontal_flip=0.5)

    record = build(Data(image_size=96, resize="pad", crop=0.875, augment=augment), "bilinear")

    assert (record.image_size, record.resize, record.crop) == (96, "pad", 0.875)
    assert (record.interpolation, record.augment) == ("bilinear", augment)


def test_unknown_interpolation_names_the_nearest():
    with pytest.raises(ModelError, match=r"'bicubik'.*Did you mean 'bicubic'"):
        build(Data(), "bicubik")


def test_record_survives_json():
    augment = Augment(crop_scale=(0.123456789, 0.9), color_jitter=(0.1, 0.2, 0.3, 0.4))
    record = build(Data(normalize="imagenet", crop=0.9, augment=augment))

    values = record.to_json()

    assert values == json.loads(json.dumps(values))
    assert TransformRecord.from_json(json.loads(json.dumps(values))) == record


def test_a_broken_record_names_all_faults_at_once():
    values = build(Data()).to_json()
    del values["mean"]
    values |= {"resize": "stretch", "std": [1.0, 0.0, 1.0], "image_sice": 3}
    values["augment"]["horizontal_flop"] = 0.5

    with pytest.raises(RunError) as caught:
        TransformRecord.from_json(values)

    text = str(caught.value)
    assert "mean: is missing" in text
    assert "'squash', 'shorter' or 'pad', not 'stretch'" in text
    assert "std: each standard deviation must be above 0, not [1.0, 0.0, 1.0]" in text
    assert "image_sice: there is no such key. Did you mean 'image_size'?" in text
    assert "horizontal_flop: there is no such key. Did you mean 'horizontal_flip'?" in text
    assert "restore the file, or train again" in text


@pytest.mark.parametrize("values", [None, [], "record", 3])
def test_something_else_than_a_record_is_refused(values):
    with pytest.raises(RunError, match="the record of the image transform"):
        TransformRecord.from_json(values)
