"""Runs made by hand: pictures of three colours, and networks whose heads tell them apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import fieldmark as fm
from fieldmark.data.prepare import hash_table
from fieldmark.data.sources import read_table
from fieldmark.data.table import Table
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.recipes.schema import Data, Model, Recipe, Statistics
from fieldmark.runs.best import Identity, save_best
from fieldmark.runs.folder import RunFolder
from fieldmark.seeds import derive_seed
from fieldmark.transforms import build_eval_transform, build_transform_record
from fieldmark.verbs.exporting import export

HALF = Statistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
COLOURS = {"amber": (230, 170, 40), "blue": (40, 60, 200), "green": (30, 150, 60)}
SaveRun = Callable[..., Path]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 36 noisy pictures of three colours."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    lines = ["image,label"]
    for number in range(36):
        label = list(COLOURS)[number % 3]
        noise = generator.normal(0, 25, (40, 52, 3)) + np.array(COLOURS[label])
        Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{label}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


@pytest.fixture(scope="session")
def save_run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> SaveRun:
    """Writes a run folder: `save_run(image_size=..., **model)`."""

    def save(*, image_size: int = 32, **model: object) -> Path:
        table = read_table(pictures)
        splits = [("train", "train", "val", "test")[place // 3 % 4] for place in range(len(table))]
        rows = [replace(r, split=s) for r, s in zip(table.rows, splits, strict=True)]
        path = tmp_path_factory.mktemp("runs") / "run"
        return write_run(path, table.with_rows(rows), pictures, image_size, model)

    return save


@pytest.fixture(scope="session")
def cnn(save_run: SaveRun) -> SimpleNamespace:
    """A run of a small CNN, and its export to ONNX: `run`, `made`."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    run = fm.load_run(save_run(name="resnet10t"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fieldmark.exporting.parity.ROUNDS", 1)
        return SimpleNamespace(run=run, made=export(run))


def write_run(
    path: Path, table: Table, source: Path, image_size: int, model: dict[str, object]
) -> Path:
    torch.manual_seed(derive_seed("exporting"))
    section = Model(**model)
    recipe = Recipe(data=Data(source=str(source), image_size=image_size), model=section)
    classifier, _ = build_classifier(section, num_classes=3, image_size=image_size)
    record = build_transform_record(
        recipe.data,
        model_statistics=HALF,
        dataset_statistics=lambda: HALF,
        interpolation="bicubic",
    )
    transform = build_eval_transform(record)
    images = [Image.open(source.parent / row.image).convert("RGB") for row in table.rows]
    tell_apart(classifier.eval(), torch.stack([transform(image) for image in images]))
    folder = RunFolder.create(path)
    folder.save_recipe(recipe)
    folder.save_classes(table)
    folder.save_split(table, hash_table(table))
    identity = Identity("multiclass", table.class_names, section, record)
    save_best(folder.best_dir, classifier, identity, {"epoch": 0})
    return folder.path


def tell_apart(classifier: Classifier, images: torch.Tensor) -> None:
    """Give the last layer the directions of the class means; the classes take turns."""
    last = classifier.head.last_layers[-1]
    read: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    with torch.no_grad():
        classifier(images)
        hook.remove()
        features = read[0]
        means = torch.stack([features[place::3].mean(dim=0) for place in range(3)])
        directions = means - means.mean(dim=0)
        directions = 20 * directions / directions.square().sum(dim=1, keepdim=True)
        last.weight.copy_(directions)
        last.bias.copy_(-directions @ means.mean(dim=0))
