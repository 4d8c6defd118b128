"""From a split table and a recipe to the `Parts` that the loop trains with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fieldmark.data.decoded import DecodedImages, DecodedTransform, StagedTransform
from fieldmark.data.images import decode_pixels
from fieldmark.data.loaders import Batches, build_loader
from fieldmark.data.sampling import EpochOrder
from fieldmark.data.table import Table
from fieldmark.data.tags import (
    TagEncoder,
    TagVocabulary,
    build_tag_vocabulary,
    check_tags,
    describe_tag_leaks,
    read_profanities,
)
from fieldmark.evaluation.collect import collect_predictions
from fieldmark.evaluation.metrics import compute_metrics
from fieldmark.evaluation.predictions import PredictionsCollector
from fieldmark.models.classifier import Classifier, HeadOnly, build_classifier
from fieldmark.models.probabilities import num_outputs
from fieldmark.models.side_by_side import lay_side_by_side, multiplies_in_tiles
from fieldmark.models.vit.plain_attention import take_plain_attention
from fieldmark.recipes import Recipe
from fieldmark.runs.best import Identity, check_start
from fieldmark.runs.folder import RunFolder
from fieldmark.seeds import derive_seed
from fieldmark.training.compiling import ANNOUNCEMENT, compile_network
from fieldmark.training.decoding import open_stores
from fieldmark.training.devices import Placement, build_accelerator
from fieldmark.training.events import Listener, ModelReady, Note
from fieldmark.training.frozen import Frozen, StoredFeatures, explain_unstored
from fieldmark.training.layout import choose_memory_format
from fieldmark.training.loop import Mixing, Parts
from fieldmark.training.losses import build_loss
from fieldmark.training.objectives import (
    ClassificationObjective,
    ComposedObjective,
    Exclusion,
    Objective,
    check_layers,
)
from fieldmark.training.optimizers import build_optimizer, count_parameters
from fieldmark.training.schedules import Schedule
from fieldmark.training.schooling import Schooling
from fieldmark.training.tag_masking import TagMasking
from fieldmark.transforms import (
    Preparation,
    TransformRecord,
    build_eval_transform,
    build_train_transform,
    build_transform_record,
    measure_statistics,
    mix_batch,
)

# Stored features in one evaluated batch; a head needs little memory.
EVAL_BATCH_SIZE = 1024


@dataclass(frozen=True)
class Sources:
    """Where batches come from beside the image files.

    features: of a frozen backbone, in place of images; images: decoded before, by split.
    """

    features: StoredFeatures | None
    images: Mapping[str, DecodedImages]


@dataclass(frozen=True)
class Assembler:
    """Builds what one run trains with; each method takes what the one before it returned."""

    folder: RunFolder
    recipe: Recipe
    placement: Placement
    listener: Listener

    def build_classifier(self, split: Table) -> tuple[Classifier, Identity]:
        """The network as it starts, and what it is."""
        recipe = self.recipe
        vocabulary = self._find_vocabulary(split)
        torch.manual_seed(derive_seed(recipe.seed, "init"))
        classifier, report = build_classifier(
            recipe.model,
            num_classes=num_outputs(recipe.task, len(split.class_names)),
            image_size=recipe.data.image_size,
            tag_vocabulary_size=0 if vocabulary is None else vocabulary.size,
            tag_pad_id=0 if vocabulary is None else vocabulary.pad_id,
        )
        if report is not None:
            self.listener(Note(report.render()))
        every, trained = count_parameters(classifier)
        self.listener(
            ModelReady(
                recipe.model.name, every, trained, self.placement.device, self.placement.precision
            )
        )
        record = self._resolve_transform(classifier, split)
        return classifier, Identity(
            recipe.task, split.class_names, recipe.model, record, vocabulary=vocabulary
        )

    def assemble(self, classifier: Classifier, identity: Identity, split: Table) -> Parts:
        """Everything that the loop needs."""
        recipe = self.recipe
        accelerator = build_accelerator(self.placement)
        # Before anything is computed with it, and before the optimizer takes its parameters.
        self._lay_out(classifier)
        train, val = split.select("train"), split.select("val")
        objective = self._build_objective(classifier, identity, train)
        sources = self._open_sources(classifier, identity, split, objective)
        loader = self._train_loader(train, identity, sources)
        model, optimizer = accelerator.prepare(
            classifier if sources.features is None else HeadOnly(classifier),
            build_optimizer(classifier, recipe.optim),
        )
        return Parts(
            compiled=self._compile(model, sources),
            model=model,
            optimizer=optimizer,
            schedule=Schedule(recipe.optim, -(-loader.num_batches // recipe.optim.accumulate)),
            objective=objective,
            mixing=_build_mixing(recipe),
            averaged=_build_average(classifier, recipe.ema),
            train_loader=loader,
            evaluate=self._build_evaluation(val, identity, sources),
            accelerator=accelerator,
        )

    def _lay_out(self, classifier: Classifier) -> None:
        image_size, tags = self.recipe.data.image_size, self.recipe.model.tags
        memory_format = choose_memory_format(classifier.backbone, image_size)
        classifier.to(memory_format=memory_format)
        if (self.placement.device, self.placement.precision) == ("cpu", "bf16"):
            num_tags = 0 if tags.tokenizer == "off" else tags.max_tokens
            take_plain_attention(classifier.backbone, image_size, num_tags)
            if memory_format == torch.channels_last and multiplies_in_tiles():
                lay_side_by_side(classifier.backbone)

    def _compile(self, model: nn.Module, sources: Sources) -> nn.Module | None:
        if not self.recipe.compile:
            return None
        if sources.features is not None:
            self.listener(Note("compile: the head alone is trained, which nothing is gained by."))
            return None
        compiled = compile_network(model, self.placement.device)
        self.listener(Note(ANNOUNCEMENT))
        return compiled

    def _find_vocabulary(self, split: Table) -> TagVocabulary | None:
        """The tags' vocabulary of this run, made now or read from its folder."""
        section = self.recipe.model.tags
        if section.tokenizer == "off":
            return None
        train = split.select("train")
        for note in (check_tags(split, section), describe_tag_leaks(train)):
            if note is not None:
                self.listener(Note(note))
        vocabulary = self.folder.load_tags()
        if vocabulary is None:
            tag_lists = [row.tags or () for row in train.rows]
            excluded = () if section.exclude is None else read_profanities(Path(section.exclude))
            vocabulary = build_tag_vocabulary(section, tag_lists, profanities=excluded)
            self.folder.save_tags(vocabulary)
        if self.recipe.model.weights is not None:
            check_start(self.recipe.model.weights, vocabulary)
        return vocabulary

    def _resolve_transform(self, classifier: Classifier, split: Table) -> TransformRecord:
        data, backbone = self.recipe.data, classifier.backbone
        return build_transform_record(
            data,
            model_statistics=backbone.statistics,
            dataset_statistics=lambda: measure_statistics(
                (decode_pixels(split.store.read(row.image)) for row in split.select("train").rows),
                data,
                interpolation=backbone.interpolation,
            ),
            interpolation=backbone.interpolation,
        )

    def _build_objective(
        self, classifier: Classifier, identity: Identity, train: Table
    ) -> Objective:
        recipe, counts = self.recipe, train.class_counts()
        loss = build_loss(
            recipe.loss, task=recipe.task, class_counts=[counts[n] for n in train.class_names]
        ).to(self.placement.device)
        distillation, exclusion, masking = None, None, None
        # Without epochs nothing is learned, from nobody.
        if recipe.loss.distill.teacher is not None and recipe.optim.epochs:
            schooling = Schooling(self.folder, recipe, self.placement, self.listener)
            distillation = schooling.build(train, identity.transform)
        if recipe.loss.exclusion:
            check_layers(recipe, classifier)
            exclusion = Exclusion(
                recipe.loss.exclusion, recipe.loss.exclusion_distance, recipe.loss.exclusion_tau
            )
        if identity.vocabulary is not None and recipe.model.tags.propose != "off":
            masking = TagMasking(recipe.model.tags.propose, identity.vocabulary, recipe.seed)
        if distillation is None and exclusion is None and masking is None:
            return ClassificationObjective(loss)
        return ComposedObjective(loss, distillation, exclusion, masking)

    def _open_sources(
        self, classifier: Classifier, identity: Identity, split: Table, objective: Objective
    ) -> Sources:
        features = self._store_features(classifier, identity, split, objective)
        if features is not None:  # then images are read once, which is no use to keep
            return Sources(features, {})
        return Sources(None, self._open_decoded(split, identity))

    def _store_features(
        self, classifier: Classifier, identity: Identity, split: Table, objective: Objective
    ) -> StoredFeatures | None:
        """What the head learns from where the backbone is frozen; None where images are."""
        if not classifier.is_frozen or self.recipe.optim.epochs == 0:
            return None
        unstored = explain_unstored(self.recipe, objective)
        if unstored is not None:
            self.listener(Note(unstored))
            return None
        frozen = Frozen(self.folder, self.recipe, self.placement, self.listener)
        return frozen.store(classifier, identity, split)

    def _open_decoded(self, split: Table, identity: Identity) -> Mapping[str, DecodedImages]:
        preparations = {
            "train": Preparation.for_training(identity.transform),
            "val": Preparation.for_evaluation(identity.transform),
        }
        return open_stores(
            self.folder, self.recipe, split, preparations, lambda text: self.listener(Note(text))
        )

    def _train_loader(self, train: Table, identity: Identity, sources: Sources) -> Batches:
        recipe = self.recipe
        order = EpochOrder.for_training(train, seed=recipe.seed, sampling=recipe.sampling)
        if sources.features is not None:
            batch_size = recipe.optim.batch_size
            return sources.features.train_loader(
                train, order, batch_size=batch_size, seed=recipe.seed
            )
        return build_loader(
            train,
            _through(sources.images.get("train"), build_train_transform(identity.transform)),
            batch_size=recipe.optim.batch_size,
            order=order,
            seed=recipe.seed,
            num_workers=self.placement.num_workers,
            encode_tags=_build_encoder(identity, trims=not recipe.compile),
        )

    def _build_evaluation(
        self, val: Table, identity: Identity, sources: Sources
    ) -> Callable[[nn.Module], Mapping[str, float]] | None:
        if len(val) == 0:
            self.listener(
                Note("There is no val split: nothing can be selected, so the last epoch is kept.")
            )
            return None
        batch_size = 2 * self.recipe.optim.batch_size
        loader: Batches
        if sources.features is not None:
            loader = sources.features.eval_loader(val, batch_size=max(EVAL_BATCH_SIZE, batch_size))
        else:
            loader = build_loader(
                val,
                _through(sources.images.get("val"), build_eval_transform(identity.transform)),
                batch_size=batch_size,
                order=None,
                seed=self.recipe.seed,
                num_workers=self.placement.num_workers,
                encode_tags=_build_encoder(identity, trims=True),
            )

        def evaluate(model: nn.Module) -> Mapping[str, float]:
            assert isinstance(model, Classifier)
            return compute_metrics(
                collect_predictions(
                    model if sources.features is None else HeadOnly(model),
                    loader,
                    val,
                    device=self.placement.device,
                    precision=self.placement.precision,
                    into=PredictionsCollector(val, with_spread=False),
                )
            )

        return evaluate


def _through(
    decoded: DecodedImages | None, transform: StagedTransform
) -> StagedTransform | DecodedTransform:
    return transform if decoded is None else DecodedTransform(transform, decoded)


def _build_encoder(identity: Identity, *, trims: bool) -> TagEncoder | None:
    """Without `trims` all batches have the same shape, which is then compiled once."""
    if identity.vocabulary is None:
        return None
    return TagEncoder(identity.vocabulary, identity.model.tags, trims=trims)


def _build_mixing(recipe: Recipe) -> Mixing | None:
    mixup, cutmix = recipe.loss.mixup, recipe.loss.cutmix
    if not mixup and not cutmix:
        return None
    return lambda images, targets, seed: mix_batch(
        images, targets, mixup=mixup, cutmix=cutmix, seed=seed
    )


def _build_average(classifier: Classifier, decay: float) -> AveragedModel | None:
    if not decay:
        return None
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(classifier, multi_avg_fn=average, use_buffers=True)
    # It is asked for in each update, which on a GPU would wait for the device.
    averaged.n_averaged = averaged.n_averaged.cpu()
    return averaged
