"""A small run made by hand: drawn pictures, a random network, its folder."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from fieldmark.data.prepare import hash_table
from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.evaluation.predictions import save_predictions
from fieldmark.evaluation.rows import predict_table
from fieldmark.inspection.subject import Subject
from fieldmark.models.classifier import build_classifier
from fieldmark.recipes import Recipe
from fieldmark.recipes.schema import Data, Model, Statistics
from fieldmark.runs.best import Identity, save_best
from fieldmark.runs.folder import RunFolder
from fieldmark.runs.predictor import load_predictor
from fieldmark.seeds import derive_seed
from fieldmark.transforms import build_transform_record

CLASSES = ("ash", "beech", "cedar")
SPLITS = (*("train",) * 6, "val", "val", *("test",) * 4)
MakeSubject = Callable[..., Subject]


@pytest.fixture
def make_subject(tmp_path: Path) -> MakeSubject:
    """Returns a run of `name` with a head, whose network has random weights."""

    def make(name: str = "test_vit", *, head: str = "linear", run: str = "run") -> Subject:
        torch.manual_seed(derive_seed("inspected", run))
        table = draw_table()
        model = Model(name=name, head=head)
        classifier, _ = build_classifier(model, num_classes=len(CLASSES), image_size=32)
        statistics = Statistics(mean=(0.5,) * 3, std=(0.5,) * 3)
        record = build_transform_record(
            Data(image_size=32),
            model_statistics=statistics,
            dataset_statistics=lambda: statistics,
            interpolation="bicubic",
        )
        folder = RunFolder.create(tmp_path / run)
        recipe = Recipe(model=model, data=Data(image_size=32, source="drawn"))
        folder.save_recipe(recipe)
        folder.save_classes(table)
        folder.save_split(table, hash_table(table))
        save_best(folder.best_dir, classifier, Identity("multiclass", CLASSES, model, record), {})
        predictor = load_predictor(folder)
        predictions = predict_table(predictor, table.select("test"))
        save_predictions(predictions, folder.predictions_path("test"))
        return Subject(folder, predictor, table)

    return make


def draw_table() -> Table:
    """Twelve pictures a class; the last test picture of "ash" is a copy of its first of train."""
    rows, images = [], {}
    for index, label in enumerate(CLASSES):
        for number, split in enumerate(SPLITS):
            key = f"{label}/{number:02d}.png"
            rows.append(Row(key, (label,), split=split))
            images[key] = _draw(index, number)
    images["ash/11.png"] = images["ash/00.png"]
    return Table(tuple(rows), MemoryStore(images), "drawn", class_names=CLASSES)


def _draw(index: int, number: int) -> bytes:
    generator = np.random.default_rng(100 * index + number)
    picture = Image.new("RGB", (40, 40), "white")
    colour = colorsys.hsv_to_rgb(index / 3 + generator.uniform(-0.1, 0.1), 0.7, 0.8)
    left, top = generator.integers(2, 16, size=2).tolist()
    box = (left, top, left + 20, top + 12 + 4 * index)
    ImageDraw.Draw(picture).ellipse(box, fill=tuple(round(255 * part) for part in colour))
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
