"""A frozen backbone runs once: its features are stored, and the head alone is trained on them."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from torch import Tensor

from fieldmark.data.columns import Labels
from fieldmark.data.loaders import Batch, build_loader
from fieldmark.data.sampling import EpochOrder
from fieldmark.data.table import Table
from fieldmark.errors import UnreadableImageError
from fieldmark.evaluation.collect import autocast
from fieldmark.models.classifier import Classifier
from fieldmark.recipes import Recipe
from fieldmark.runs.best import Identity
from fieldmark.runs.feature_store import FeatureStore, Keys, Origin, Rows, key_of
from fieldmark.runs.folder import RunFolder
from fieldmark.seeds import derive_seed
from fieldmark.training.devices import Placement
from fieldmark.training.events import FeaturesStored, Listener, Note
from fieldmark.training.objectives import Objective
from fieldmark.transforms import (
    PLAIN,
    TransformRecord,
    View,
    ViewTransform,
    choose_views,
    is_random,
)

# Pictures in one pass of the backbone. More gain nothing on a CPU.
PASS_SIZE, PASS_SIZE_GPU = 32, 256

# Keys of `model` that change nothing in what a backbone computes, or that its weights tell.
_NOT_OF_THE_BACKBONE = {
    *("pretrained", "weights", "init", "freeze", "drop_path", "dropout"),
    *("head", "head_width", "head_dropout", "head_zero_init", "head_token_norm"),
    "head_layer_softmax",
}


def explain_unstored(recipe: Recipe, objective: Objective) -> str | None:
    """Why a frozen backbone runs in each epoch all the same; None where its features are stored."""
    reasons = {
        "views is 0": recipe.views == 0,
        "model.tags vary from epoch to epoch": recipe.model.tags.tokenizer != "off",
        "loss.mixup and loss.cutmix mix pixels": bool(recipe.loss.mixup or recipe.loss.cutmix),
        "the teacher looks at the images of each batch": objective.needs_images,
    }
    found = [reason for reason, is_so in reasons.items() if is_so]
    if not found:
        return None
    return f"The frozen backbone runs in each epoch: {', '.join(found)}."


@dataclass(frozen=True)
class Frozen:
    """Finds the features of a run's images, and computes those that are not stored yet."""

    folder: RunFolder
    recipe: Recipe
    placement: Placement
    listener: Listener

    def store(self, classifier: Classifier, identity: Identity, split: Table) -> StoredFeatures:
        """Features of every train and val image; raise `StorageError` where they find no room.

        Raises `UnreadableImageError` for an image that could be read when the data was prepared.
        """
        record = identity.transform
        classifier.backbone.to(self.placement.device)  # type: ignore[attr-defined]
        shape = self._measure(classifier, record)
        origin = Origin(
            network=describe_network(self.recipe),
            weights=digest_weights(classifier),
            transform=json.dumps({**record.to_json(), "augment": None}, sort_keys=True),
            reads=classifier.head.reads,
            precision=self.placement.precision,
            shape=shape,
        )
        store = FeatureStore(self._root(), origin)
        others = store.describe_others()
        for note in (*store.open(), *([] if others is None else [others])):
            self.listener(Note(note))
        views = self._choose_views(record)
        stored = StoredFeatures(store, record, views, self.folder.load_content_hashes())
        self.listener(Note(self._describe(views, record, store)))
        self._complete(stored, classifier, split)
        return stored

    def _root(self) -> Path:
        if self.recipe.cache in ("auto", "off"):
            return self.folder.features_dir
        return Path(self.recipe.cache).expanduser().absolute() / "features"

    def _choose_views(self, record: TransformRecord) -> tuple[View, ...]:
        optim, count = self.recipe.optim, self.recipe.views
        # An epoch shows one view of each image, so more views than epochs cannot all be seen.
        most = count if optim.max_updates else min(count, optim.epochs)
        return choose_views(record.augment, most)

    def _describe(self, views: tuple[View, ...], record: TransformRecord, s: FeatureStore) -> str:
        names = ", ".join(view.name for view in views)
        text = (
            f"The backbone is frozen, so it runs once and the head learns from stored features "
            f"({s.folder}). Views of each training image: {names}."
        )
        if is_random(record.augment):
            text += (
                " A larger `views` shows more of the augmentation; views=0 shows all of it, and "
                "runs the backbone in each epoch."
            )
        return text

    def _measure(self, classifier: Classifier, record: TransformRecord) -> tuple[int, ...]:
        """Shape of what the head reads of one image."""
        side = record.image_size
        image = torch.zeros(1, 1, 3, side, side)
        return tuple(self._read(classifier, image).shape[2:])

    def _complete(self, stored: StoredFeatures, classifier: Classifier, split: Table) -> None:
        """Compute what is missing, the images that lack the same views together."""
        lacking: dict[tuple[View, ...], list[int]] = defaultdict(list)
        rows = split.rows
        for name, views in (("train", stored.views), ("val", (PLAIN,))):
            positions = [place for place, row in enumerate(rows) if row.split == name]
            part = replace(split, rows=tuple(rows[place] for place in positions))
            is_lacking = stored.find(part, views) < 0  # (N, V)
            for place, lacks in zip(positions, is_lacking, strict=True):
                missing = tuple(view for view, is_so in zip(views, lacks, strict=True) if is_so)
                if missing:
                    lacking[missing].append(place)
        num_new = sum(len(places) for places in lacking.values())
        num_images = sum(row.split in ("train", "val") for row in rows)
        if 0 < num_new < num_images:
            self.listener(
                Note(
                    f"{num_new} of {num_images} images are new, changed or not stored in all "
                    "these views: their features are computed now."
                )
            )
        total = sum(len(views) * len(places) for views, places in lacking.items())
        # Before hours of work, not after them.
        stored.store.check_room(total)
        done = 0
        for views, places in lacking.items():
            part = replace(split, rows=tuple(rows[place] for place in places))
            blocks = self._compute(classifier, stored.record, part, views, done, total)
            stored.store.add(stored.keys(part, views).ravel(), blocks)
            done += len(views) * len(places)

    def _compute(
        self,
        classifier: Classifier,
        record: TransformRecord,
        part: Table,
        views: tuple[View, ...],
        done: int,
        total: int,
    ) -> Iterator[Tensor]:
        """Yield features (B V, D) or (B V, D, L): of each image all its views."""
        size = PASS_SIZE if self.placement.device == "cpu" else PASS_SIZE_GPU
        loader = build_loader(
            part,
            ViewTransform(record, views),
            # What fits in training fits here.
            batch_size=max(1, min(size, self.recipe.optim.batch_size) // len(views)),
            order=None,
            seed=self.recipe.seed,
            num_workers=self.placement.num_workers,
        )
        for batch in loader.epoch(0):
            if batch.unreadable:
                position, reason = batch.unreadable[0]
                raise UnreadableImageError(
                    f"{part.rows[position].image}: was readable before and is no more: {reason}. "
                    "Restore the image, or leave it out"
                )
            yield self._read(classifier, batch.images).flatten(0, 1)
            done += batch.images.shape[0] * len(views)
            self.listener(FeaturesStored(done, total))

    def _read(self, classifier: Classifier, images: Tensor) -> Tensor:
        """Images (B, V, 3, H, W) -> what the head reads, (B, V, D) or (B, V, D, L)."""
        device, precision = self.placement.device, self.placement.precision
        flat = images.flatten(0, 1).to(device, non_blocking=True)  # (B V, 3, H, W)
        with torch.inference_mode(), autocast(device, precision):
            features = classifier.eval().features(flat)
        read: Tensor = getattr(features, classifier.head.reads)
        return read.reshape(*images.shape[:2], *read.shape[1:])


@dataclass(frozen=True)
class StoredFeatures:
    """The features of a run's images, by image and view."""

    store: FeatureStore
    record: TransformRecord
    views: tuple[View, ...]
    content_hashes: Mapping[str, str]

    def keys(self, table: Table, views: tuple[View, ...]) -> Keys:
        """What the features of each row and view are found by, (N, V)."""
        names = [view.describe(self.record) for view in views]
        hashes = (self.content_hashes[row.image] for row in table.rows)
        found = [[key_of(content, name) for name in names] for content in hashes]
        return np.array(found, dtype=np.uint64).reshape(len(table), len(views))

    def find(self, table: Table, views: tuple[View, ...]) -> Rows:
        """The row of the store of each row and view, (N, V); -1 where there is none."""
        return self.store.find(self.keys(table, views))

    def train_loader(
        self, table: Table, order: EpochOrder, *, batch_size: int, seed: int
    ) -> FeatureLoader:
        """The batches of training: of each image one of its views, drawn anew each epoch."""
        rows = self.find(table, self.views)
        return FeatureLoader(self.store, rows, Labels(table), order, batch_size, seed)

    def eval_loader(self, table: Table, *, batch_size: int) -> FeatureLoader:
        """The batches of evaluation: every image as it is, in the order of the table."""
        order = EpochOrder.in_table_order(table)
        rows = self.find(table, (PLAIN,))
        return FeatureLoader(self.store, rows, Labels(table), order, batch_size, seed=0)


class FeatureLoader:
    """Batches of stored features in place of images.

    The order depends on (seed, epoch) as that of images does, and the view that is shown at a
    place of it on (seed, epoch, place).
    """

    def __init__(
        self,
        store: FeatureStore,
        rows: Rows,
        labels: Labels,
        order: EpochOrder,
        batch_size: int,
        seed: int,
    ) -> None:
        """Take the rows (N, V) that `store` has for each image of the table."""
        self.num_batches = order.num_batches(batch_size)
        self._store, self._rows, self._labels = store, rows, labels
        self._order, self._batch_size, self._seed = order, batch_size, seed

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of this epoch (from 0) from `start_batch` on."""
        positions = self._order.positions(epoch)
        rows = self._rows[positions, self._draw_views(epoch, len(positions))]
        for share in self._order.shares(self._batch_size, start_batch):
            yield Batch(
                images=self._store.read(rows[share]),
                targets=self._labels.take(positions[share]),
                positions=torch.from_numpy(positions[share]),
            )

    def _draw_views(self, epoch: int, count: int) -> Rows:
        num_views = self._rows.shape[1]
        if num_views == 1:
            return np.zeros(count, np.int64)
        # NumPy promises the raw bits of a generator for all versions, but no distribution.
        bits = np.random.PCG64(derive_seed(self._seed, "views", epoch)).random_raw(count)
        return (bits % np.uint64(num_views)).astype(np.int64)


def describe_network(recipe: Recipe) -> str:
    """The design of a backbone in words, with the libraries that compute it."""
    model = recipe.model.model_dump(mode="json", exclude=_NOT_OF_THE_BACKBONE)
    libraries = {"timm": timm.__version__, "torchvision": torchvision.__version__}
    return json.dumps({**model, **libraries}, sort_keys=True)


def digest_weights(classifier: Classifier) -> str:
    """128 bits of every parameter and buffer of the backbone, as hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(classifier.backbone.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(values.numpy())
    return digest.hexdigest()
