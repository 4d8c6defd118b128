"""Images of a table for sheets of many: which, and their pixels."""

from __future__ import annotations

from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fieldmark.data.images import decode_image
from fieldmark.data.stores import ImageStore
from fieldmark.data.table import Row
from fieldmark.errors import InspectionError, UnreadableImageError
from fieldmark.evaluation.predictions import Predictions, load_predictions
from fieldmark.evaluation.rows import predict_table
from fieldmark.inspection.asking import Answer
from fieldmark.inspection.pictures import Picture, prepare_picture
from fieldmark.inspection.saliency.grad_cam import compute_grad_cam
from fieldmark.inspection.subject import Subject

Pixels = NDArray[np.uint8]
BLANK = 236


def read_picture(store: ImageStore, image: str, side_px: int = 160) -> Pixels:
    """(h, w, 3) with the longer side at most `side_px`; grey where the image cannot be read."""
    try:
        picture = decode_image(store.read(image))
    except UnreadableImageError:
        return np.full((side_px, side_px, 3), BLANK, dtype=np.uint8)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return np.asarray(picture.convert("RGB"))


def shorten(text: str, length: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def say(label: str) -> str:
    """A class name for people: `acer_rubrum` -> `acer rubrum`; it cannot become mathematics."""
    return label.replace("_", " ").replace("$", r"\$")


def say_file(image: str, length: int = 22) -> str:
    """The end of an image's path."""
    name = image.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("$", r"\$")
    return name if len(name) <= length else "…" + name[-(length - 1) :]


def read_predictions(subject: Subject, split: str) -> Predictions:
    """The stored predictions of a split of the run, or new ones where there are none.

    Raises `InspectionError` where there are none and the images are gone.
    """
    path = subject.folder.predictions_path(split)
    if path.is_file():
        return load_predictions(path)
    if subject.table is None or not len(subject.table.select(split)):
        raise InspectionError(
            f"{subject.folder.path}: has no predictions of its {split} split, and the images are "
            f"not there. Restore them, then run `fieldmark evaluate {subject.folder.path}`"
        )
    return predict_table(subject.predictor, subject.table.select(split))


def see(subject: Subject, row: Row) -> Picture | None:
    """A row's image as the network reads it; None where it is unreadable."""
    if subject.table is None:
        return None
    try:
        data = subject.table.store.read(row.image)
        name = PurePath(row.image).name
        return prepare_picture(
            subject, data, name=name, split=row.split, label=row.label, tags=row.tags
        )
    except UnreadableImageError:
        return None


def find_evidence(
    subject: Subject, picture: Picture, class_index: int, rival_index: int | None = None
) -> NDArray[np.float32] | None:
    """(H, W) in 0..1: Grad-CAM for a class, or for it rather than a rival; None where all is 0."""
    answer = Answer(
        subject.classifier, subject.predictor.task, class_index, picture.tag_ids, rival_index
    )
    evidence = compute_grad_cam(answer, picture)
    largest = float(evidence.max())
    return evidence / largest if largest > 0 else None
