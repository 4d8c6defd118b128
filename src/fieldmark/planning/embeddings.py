"""What a pretrained network makes of every image of a table: one vector each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from fieldmark.data.audit.deep import Network
from fieldmark.data.loaders import build_loader
from fieldmark.data.table import Row, Table
from fieldmark.errors import WeightsError
from fieldmark.models.catalog import find_model
from fieldmark.models.classifier import build_classifier
from fieldmark.recipes.schema import Data, Model
from fieldmark.training.devices import choose_device
from fieldmark.transforms import build_eval_transform, build_transform_record

BATCH_SIZE = 32

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Embeddings:
    """Vectors (N, D) float32 of images, in the order of `images`; unreadable ones are left out."""

    images: tuple[str, ...]
    vectors: Floats


def embed_images(
    table: Table,
    images: Sequence[str],
    network: Network,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Embeddings:
    """Run the frozen network once over `images` of the table's store; no image is cropped.

    Memory is that of a batch and of N x D numbers. Raises `UnknownModelError` and `WeightsError`.
    """
    device = choose_device()
    model = Model(name=network.model, pretrained=network.weights is None, weights=network.weights)
    size = find_model(network.model).image_size
    try:
        classifier, _ = build_classifier(model, num_classes=2, image_size=size)
    except WeightsError as error:
        raise WeightsError(
            f"--deep needs a network with weights. {error} Here these are the options --model "
            "NAME and --weights FILE."
        ) from error
    backbone = classifier.eval().to(device).backbone
    record = build_transform_record(
        Data(image_size=size),
        model_statistics=backbone.statistics,
        dataset_statistics=lambda: backbone.statistics,
        interpolation=backbone.interpolation,
    )
    rows = tuple(Row(image) for image in images)
    loader = build_loader(
        replace(table, rows=rows, task="multiclass", class_names=()),
        build_eval_transform(record),
        batch_size=BATCH_SIZE,
        order=None,
        seed=0,
        num_workers=0,
    )
    vectors = np.empty((len(rows), backbone.width), dtype=np.float32)
    kept: list[int] = []
    for number, batch in enumerate(loader.epoch(0), start=1):
        if len(batch):
            with torch.inference_mode():
                pooled = backbone(batch.images.to(device)).pooled  # (B, D)
            positions = batch.positions.tolist()
            vectors[len(kept) : len(kept) + len(positions)] = pooled.float().cpu().numpy()
            kept += positions
        if progress is not None:
            progress(min(number * BATCH_SIZE, len(rows)), len(rows))
    return Embeddings(tuple(images[place] for place in kept), vectors[: len(kept)])
