from __future__ import annotations

import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fieldmark.recipes.schema import Augment, Data, Statistics
from fieldmark.transforms import (
    TransformRecord,
    build_eval_transform,
    build_train_transform,
    build_transform_record,
    pipelines,
)

EVERYTHING = Augment(
    crop="resized",
    horizontal_flip=0.5,
    vertical_flip=0.5,
    rotation_degrees=20,
    zoom=0.2,
    color_jitter=(0.3, 0.3, 0.3, 0.1),
    randaugment_ops=2,
    random_erasing=0.5,
)
EACH = {
    "random crop": Augment(crop="random", crop_margin_px=8),
    "resized crop": Augment(crop="resized"),
    "horizontal flip": Augment(horizontal_flip=1.0),
    "vertical flip": Augment(vertical_flip=1.0),
    "rotation": Augment(rotation_degrees=15),
    "zoom": Augment(zoom=0.2),
    "color jitter": Augment(color_jitter=(0.4, 0.4, 0.4, 0.1)),
    "randaugment": Augment(randaugment_ops=2),
    "random erasing": Augment(random_erasing=1.0),
}
RANDOM = {name: EACH[name] for name in EACH if not name.endswith("flip")}


def build_record(augment: Augment | None = None, **data: object) -> TransformRecord:
    values = {"image_size": 32, "normalize": "half", "augment": augment or Augment()} | data
    return build_transform_record(
        Data(**values),
        model_statistics=Statistics(mean=(0, 0, 0), std=(1, 1, 1)),
        dataset_statistics=lambda: Statistics(mean=(0, 0, 0), std=(1, 1, 1)),
        interpolation="bilinear",
    )


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC)


def test_evaluation_gives_normalised_float_pixels():
    record = build_record(
        normalize=Statistics(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0)), image_size=8
    )

    values = build_eval_transform(record)(Image.new("RGB", (8, 8), (255, 51, 102)))

    assert (values.shape, values.dtype) == ((3, 8, 8), torch.float32)
    assert values.is_contiguous()
    assert values[:, 3, 3].tolist() == pytest.approx([1.0, (0.2 - 0.25) / 0.25, 0.4 / 2.0])


def test_evaluation_ignores_augmentation(picture):
    plain, augmented = build_record(), build_record(EVERYTHING)

    assert torch.equal(
        build_eval_transform(plain)(picture), build_eval_transform(augmented)(picture)
    )


@pytest.mark.parametrize("resize", ["squash", "shorter", "pad"])
@pytest.mark.parametrize("crop", [1.0, 0.8])
def test_training_without_augmentation_equals_evaluation(picture, resize, crop):
    record = build_record(resize=resize, crop=crop)

    trained = build_train_transform(record)(picture, 7)

    assert torch.equal(trained, build_eval_transform(record)(picture))


@pytest.mark.parametrize("augment", EACH.values(), ids=EACH.keys())
def test_each_augmentation_changes_the_picture(picture, augment):
    record = build_record(augment)
    plain = build_eval_transform(record)(picture)
    transform = build_train_transform(record)

    changed = [transform(picture, seed) for seed in range(4)]

    assert all(image.shape == plain.shape for image in changed)
    assert any(not torch.equal(image, plain) for image in changed)


@pytest.mark.parametrize("augment", RANDOM.values(), ids=RANDOM.keys())
def test_each_augmentation_depends_on_the_seed_alone(picture, augment):
    transform = build_train_transform(build_record(augment))

    first = [transform(picture, seed) for seed in range(8)]
    second = [transform(picture, seed) for seed in reversed(range(8))][::-1]

    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert len({image.numpy().tobytes() for image in first}) > 1


def test_drawing_reads_and_leaves_no_global_state(picture):
    transform = build_train_transform(build_record(EVERYTHING))
    results = []
    for global_seed in (1, 2):
        random.seed(global_seed)
        np.random.seed(global_seed)
        torch.manual_seed(global_seed)
        before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
        results.append([transform(picture, seed) for seed in range(32)])
        assert random.getstate() == before[0]
        assert np.random.get_state()[1].tobytes() == before[1]
        assert torch.equal(torch.get_rng_state(), before[2])

    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_the_given_image_is_not_changed(picture):
    before = picture.tobytes()

    build_train_transform(build_record(EVERYTHING))(picture, 3)

    assert picture.tobytes() == before


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_any_derived_seed_is_accepted(picture, seed):
    assert build_train_transform(build_record(EVERYTHING))(picture, seed).shape == (3, 32, 32)


def test_horizontal_flip_mirrors(picture):
    record = build_record(Augment(horizontal_flip=1.0))

    flipped = build_train_transform(record)(picture, 0)

    assert torch.equal(flipped.flip(2), build_eval_transform(record)(picture))


def test_vertical_flip_turns_upside_down(picture):
    record = build_record(Augment(vertical_flip=1.0))

    flipped = build_train_transform(record)(picture, 0)

    assert torch.equal(flipped.flip(1), build_eval_transform(record)(picture))


@pytest.mark.parametrize("resize", ["squash", "shorter", "pad"])
def test_random_crop_cuts_out_of_the_picture_with_its_margin(picture, resize):
    augment = Augment(crop="random", crop_margin_px=4)
    whole = build_eval_transform(build_record(resize=resize, image_size=36))(picture)
    transform = build_train_transform(build_record(augment, resize=resize))

    cut = [transform(picture, seed) for seed in range(60)]

    # A longer side gives further places than the central square holds.
    inside = {
        (top, left): whole[:, top : top + 32, left : left + 32]
        for top in range(5)
        for left in range(5)
    }
    found = [place for image in cut for place, part in inside.items() if torch.equal(part, image)]
    assert len(found) == 60 or resize == "shorter"
    assert len(set(found)) > 8


def test_rotation_keeps_the_centre_and_mirrors_at_the_edges():
    white = build_record(Augment(rotation_degrees=45), normalize="none", image_size=33)
    dotted = Image.new("RGB", (33, 33), "black")
    dotted.putpixel((16, 16), (255, 255, 255))
    transform = build_train_transform(white)

    for seed in range(5):
        turned = transform(dotted, seed)
        assert turned[:, 16, 16].tolist() == pytest.approx([1.0] * 3, abs=1e-4)
        blank = transform(Image.new("RGB", (50, 40), "white"), seed)
        assert blank.min() == pytest.approx(1.0, abs=1e-6)


def test_rotation_turns_by_at_most_the_given_angle():
    image = Image.new("RGB", (101, 101), "black")
    image.putpixel((90, 50), (255, 255, 255))
    transform = build_train_transform(
        build_record(Augment(rotation_degrees=30), normalize="none", image_size=101)
    )
    angles = []
    for seed in range(60):
        row, column = divmod(int(transform(image, seed)[0].argmax()), 101)
        angles.append(float(np.degrees(np.arctan2(row - 50, column - 50))))
        assert np.hypot(row - 50, column - 50) == pytest.approx(40, abs=1.0)

    assert -31.0 < min(angles) < -20.0
    assert 20.0 < max(angles) < 31.0


def test_zoom_scales_height_and_width_each_by_its_own_factor():
    """A centred square becomes a rectangle of 1 / (1 +- 0.2) times its sides."""
    image = Image.new("RGB", (100, 100), "black")
    image.paste((255, 255, 255), (30, 30, 70, 70))
    transform = build_train_transform(
        build_record(Augment(zoom=0.2), normalize="none", image_size=100)
    )
    heights, widths = [], []
    for seed in range(60):
        zoomed = transform(image, seed)[0]
        heights.append(float(zoomed[:, 50].sum()))
        widths.append(float(zoomed[50].sum()))

    for sides in (heights, widths):
        assert 40 / 1.2 - 1 < min(sides) < 36
        assert 45 < max(sides) < 40 / 0.8 + 1
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.4


def test_erased_pixels_become_the_mean(picture):
    record = build_record(Augment(random_erasing=1.0))

    values = build_train_transform(record)(picture, 1)

    erased = (values == 0.0).all(dim=0)
    assert 0.02 < float(erased.float().mean()) < 0.34
    plain = build_eval_transform(record)(picture)
    assert torch.equal(values[:, ~erased], plain[:, ~erased])


@pytest.mark.parametrize("magnitude", range(31))
def test_randaugment_works_at_every_magnitude(picture, magnitude):
    augment = Augment(randaugment_ops=8, randaugment_magnitude=magnitude)
    transform = build_train_transform(build_record(augment))

    for seed in range(12):
        assert torch.isfinite(transform(picture, seed)).all()


@pytest.mark.parametrize("normalize", ["none", "imagenet"])
def test_every_augmentation_at_once_stays_in_range(picture, normalize):
    record = build_record(EVERYTHING, normalize=normalize)
    low = torch.tensor([(0.0 - m) / s for m, s in zip(record.mean, record.std, strict=True)])
    high = torch.tensor([(1.0 - m) / s for m, s in zip(record.mean, record.std, strict=True)])

    for seed in range(32):
        values = build_train_transform(record)(picture, seed).flatten(1)
        assert (values >= low[:, None] - 1e-5).all()
        assert (values <= high[:, None] + 1e-5).all()


def test_a_loaders_process_fills_memory_that_it_shares(picture, monkeypatch):
    transform = build_train_transform(build_record(Augment(crop="resized")))
    prepared = [(transform.prepare(picture), seed) for seed in range(2)]
    alone = transform.finish(prepared, at_most=3)
    monkeypatch.setattr(pipelines, "get_worker_info", object)
    shared = transform.finish(prepared, at_most=3)

    assert torch.equal(shared, alone)
    assert (shared.is_shared(), alone.is_shared()) == (True, False)
    assert shared.is_contiguous(memory_format=torch.channels_last)


def test_pipelines_survive_pickling(picture):
    record = build_record(EVERYTHING)
    train, evaluation = build_train_transform(record), build_eval_transform(record)

    assert torch.equal(pickle.loads(pickle.dumps(train))(picture, 5), train(picture, 5))
    assert torch.equal(pickle.loads(pickle.dumps(evaluation))(picture), evaluation(picture))


def test_a_record_from_json_builds_the_same_pipelines(picture):
    record = replace(build_record(EVERYTHING), crop=0.9, interpolation="bicubic")
    restored = TransformRecord.from_json(record.to_json())

    for seed in range(4):
        assert torch.equal(
            build_train_transform(restored)(picture, seed),
            build_train_transform(record)(picture, seed),
        )
    assert torch.equal(
        build_eval_transform(restored)(picture), build_eval_transform(record)(picture)
    )
