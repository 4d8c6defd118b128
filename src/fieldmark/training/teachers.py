"""Teachers: another run, or a network of timm with its published weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor

from fieldmark.data.tags import TagEncoder
from fieldmark.errors import ModelError, RecipeError, hint
from fieldmark.models.catalog import find_model, list_models
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.recipes.schema import Data, Model
from fieldmark.runs.best import load_best
from fieldmark.runs.folder import RunFolder
from fieldmark.transforms import TransformRecord, build_transform_record

NUM_NAMED = 5


@dataclass(frozen=True)
class Teacher:
    """A trained classifier of the student's classes, in evaluation mode.

    transform: how its images are made. columns: (K,) which of its classes each of the student's
    is; None where they stand in the same order. encode_tags: what turns tags into its ids; None
    where it takes none.
    """

    name: str
    classifier: Classifier
    transform: TransformRecord
    columns: Tensor | None = None
    encode_tags: TagEncoder | None = None

    def classify(self, images: Tensor, tags: Tensor | None = None) -> Tensor:
        """Images (B, 3, H, W), tags (B, T) -> logits (B, K) float32 in the student's order."""
        inputs = (images,) if tags is None else (images, tags)
        logits: Tensor = self.classifier(*inputs).float()
        return logits if self.columns is None else logits[:, self.columns.to(logits.device)]


def load_teacher(name: str, class_names: Sequence[str], device: str) -> Teacher:
    """Load the run in the folder of that name, or the timm network with its published weights.

    `class_names` are the student's. Raises `RecipeError` where there is neither, `ModelError`
    where the teacher knows other classes, `WeightsError` where weights cannot be fetched.
    """
    if Path(name).is_dir():
        teacher = _load_run(Path(name), class_names)
    else:
        teacher = _load_published(name, len(class_names))
    teacher.classifier.requires_grad_(False)
    teacher.classifier.to(device)
    return teacher


def _load_run(path: Path, class_names: Sequence[str]) -> Teacher:
    classifier, identity = load_best(RunFolder.open(path).find_best())
    if identity.task != "multiclass":
        raise ModelError(
            f"loss.distill.teacher: {path} was trained for task {identity.task}, not multiclass. "
            "Choose a run that gives each image one of many classes"
        )
    _check_classes(path, identity.class_names, class_names)
    columns = None
    if identity.class_names != tuple(class_names):
        places = {name: index for index, name in enumerate(identity.class_names)}
        columns = torch.tensor([places[name] for name in class_names])
    vocabulary = identity.vocabulary
    encoder = None if vocabulary is None else TagEncoder(vocabulary, identity.model.tags)
    return Teacher(str(path), classifier, identity.transform, columns, encoder)


def _check_classes(path: Path, known: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in set(known)]
    extra = [name for name in known if name not in set(wanted)]
    if missing or extra:
        differences = [
            f"{what} {len(names)} ({_shorten(names)})"
            for what, names in (("lacks", missing), ("has beside them", extra))
            if names
        ]
        raise ModelError(
            f"loss.distill.teacher: {path} knows other classes: of the {len(wanted)} here it "
            f"{' and '.join(differences)}. Choose a teacher that was trained on these classes"
        )


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:NUM_NAMED]) + (", ..." if len(names) > NUM_NAMED else "")


def _load_published(name: str, num_classes: int) -> Teacher:
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        names = [model.name for model in list_models()]
        raise RecipeError(
            f"loss.distill.teacher: '{name}' is neither the folder of a run nor a timm name with "
            f"published weights.{hint(name.partition('.')[0], names)} `fieldmark models PATTERN` "
            "lists names and their weights"
        )
    if config.num_classes != num_classes:
        raise ModelError(
            f"loss.distill.teacher: '{name}' was published for {config.num_classes} classes, but "
            f"there are {num_classes} here. Train it on these images first (model.name={name}, "
            "model.pretrained=true), and give the folder of that run"
        )
    model = Model(name=name, pretrained=True)
    image_size = find_model(name).image_size
    classifier, report = build_classifier(model, num_classes=num_classes, image_size=image_size)
    if report is None or not report.is_head_kept:
        reason = "" if report is None else f": {report.head}"
        raise ModelError(
            f"loss.distill.teacher: the published weights of '{name}' classify nothing{reason}. "
            "Choose a name whose weights were made for these classes, or the folder of a run"
        )
    backbone = classifier.backbone
    data = Data(
        image_size=image_size,
        resize="squash" if config.crop_mode == "squash" else "shorter",
        crop=config.crop_pct,
    )
    record = build_transform_record(
        data,
        model_statistics=backbone.statistics,
        dataset_statistics=lambda: backbone.statistics,
        interpolation=backbone.interpolation,
    )
    return Teacher(name, classifier.eval(), record)
