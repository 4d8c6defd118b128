"""Run folders made by hand: drawn pictures and invented predictions, without any training."""

from __future__ import annotations

import colorsys
import math
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from fieldmark.data.prepare import LeftOut
from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.evaluation.predictions import Predictions, PredictionsCollector, save_predictions
from fieldmark.recipes import Recipe
from fieldmark.runs.files import save_bytes, save_json
from fieldmark.runs.folder import RunFolder

SPLITS = (*("train",) * 7, "val", "test", "test")


@pytest.fixture(scope="session")
def drawn() -> SimpleNamespace:
    """The functions below, which tests cannot import from here."""
    return SimpleNamespace(
        draw_table=draw_table,
        invent_predictions=invent_predictions,
        invent_epochs=invent_epochs,
        save_run=save_run,
        predict_test=predict_test,
        add_figures=add_figures,
    )


@cache
def draw_picture(hue: float, points: int, size: int = 64) -> bytes:
    """A star of a colour; PNG."""
    picture = Image.new("RGB", (size, size), "white")
    colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.6, 0.7))
    radii = (0.46 * size, 0.2 * size)
    corners = [
        (
            size / 2 + radii[k % 2] * math.sin(math.pi * k / points),
            size / 2 - radii[k % 2] * math.cos(math.pi * k / points),
        )
        for k in range(2 * points)
    ]
    ImageDraw.Draw(picture).polygon(corners, fill=colour)
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def draw_table(class_names: list[str], images_per_class: int) -> Table:
    """Classes of falling size, split 7 : 1 : 2, with a picture for every row."""
    rows, images = [], {}
    for index, name in enumerate(class_names):
        count = max(10, round(images_per_class * (1 - 0.7 * index / len(class_names))))
        for number in range(count):
            key = f"images/{index:03d}/{number:04d}.png"
            rows.append(Row(key, (name,), split=SPLITS[number % len(SPLITS)]))
            images[key] = draw_picture(index / len(class_names), 3 + (index + number) % 6)
    return Table(tuple(rows), MemoryStore(images), "drawn", class_names=tuple(class_names))


def invent_predictions(table: Table, *, skill: float = 4.0, seed: int = 0) -> Predictions:
    """Predictions that take a class for one of its two neighbours now and then."""
    generator = np.random.default_rng(seed)
    num_classes = len(table.class_names)
    true = np.array([table.class_index[row.labels[0]] for row in table.rows])
    logits = generator.normal(size=(len(true), num_classes))
    logits[np.arange(len(true)), true] += skill
    twin = np.minimum(true ^ 1, num_classes - 1)
    logits[np.arange(len(true)), twin] += skill - 2.0
    collector = PredictionsCollector(table)
    collector.add(torch.arange(len(true)), torch.tensor(logits, dtype=torch.float32))
    return collector.finish()


def invent_epochs(num_epochs: int) -> list[dict[str, float | int | bool]]:
    """A run that learns, then overfits a little."""
    lines: list[dict[str, float | int | bool]] = []
    best = 0.0
    for epoch in range(1, num_epochs + 1):
        done = epoch / max(num_epochs, 8)
        accuracy = 0.9 - 0.75 * math.exp(-5 * done) - 0.06 * max(0.0, done - 0.7)
        accuracy += 0.012 * math.sin(2.3 * epoch)
        lines.append(
            {
                "epoch": epoch,
                "train_loss": 2.2 * math.exp(-4 * done) + 0.05,
                "val_nll": 2.1 * math.exp(-3.5 * done) + 0.3 + 0.25 * max(0.0, done - 0.6),
                "val_accuracy": accuracy,
                "val_macro_f1": accuracy - 0.03 - 0.02 * math.exp(-done),
                "is_best": accuracy > best,
            }
        )
        best = max(best, accuracy)
    return lines


def save_run(path: Path, table: Table, *, num_epochs: int = 16, finished: bool = True) -> RunFolder:
    """Write a run folder of that table, without predictions."""
    folder = RunFolder.create(path)
    recipe = Recipe().model_copy(update={"description": "drawn for a look at the page"})
    data = recipe.data.model_copy(update={"source": "drawn"})
    folder.save_recipe(recipe.model_copy(update={"data": data}))
    folder.save_classes(table)
    folder.save_split(table, {row.image: f"{place:032x}" for place, row in enumerate(table.rows)})
    folder.save_left_out(
        [LeftOut("images/broken.png", table.class_names[0], "unreadable: not an image")]
    )
    folder.save_metrics(invent_epochs(num_epochs))
    if finished:
        folder.save_environment(
            {
                "command": ["fieldmark", "train", "my leaves", "--recipe", "quick"],
                "python": "3.11.2",
                "platform": "Linux",
                "packages": {"fieldmark": "0.1.0", "torch": "2.15.0", "accelerate": None},
                "git_commit": None,
                "device": "cpu",
                "device_name": "A processor",
                "precision": "fp32",
                "cpu_cores": 2,
                "threads": 2,
                "seconds": 83.4,
                "images_per_second": 412.5,
                "peak_memory_mb": 1210.2,
            }
        )
    return folder


def predict_test(folder: RunFolder, table: Table, *, skill: float = 4.0) -> Predictions:
    """Invent the predictions of the test split, and store them."""
    test = replace(table, rows=tuple(row for row in table.rows if row.split == "test"))
    predictions = invent_predictions(test, skill=skill)
    save_predictions(predictions, folder.predictions_path("test"))
    return predictions


def add_figures(folder: RunFolder, count: int = 2, size: int = 64) -> None:
    """Store pictures as if `fieldmark inspect` had drawn them."""
    entries = []
    for number in range(count):
        stem = f"attention-resnet18-{number}"
        save_bytes(folder.figures_dir / f"{stem}.png", draw_picture(0.3, 5 + number % 6, size))
        about = {"title": f"Attention {number}", "caption": "Block 11, <b>leaf</b>, test."}
        entries.append({"stem": stem, "what": "attention", **about})
    save_json(folder.figures_dir / "index.json", entries)
