"""The training loop: one for every recipe. It yields events and touches no files.

What varies - objective, schedule, mixing, averaging, what is trained - comes in as `Parts`. All
randomness is addressed by (seed, epoch, batch), and `Progress` holds everything else, so a loop
that is given a saved `Progress`, weights and optimizer goes on bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from fieldmark.data.loaders import Batch, Batches
from fieldmark.errors import NonFiniteAnswerError, NonFiniteLossError
from fieldmark.evaluation.metrics import is_better
from fieldmark.models.classifier import HeadOnly
from fieldmark.recipes.schema import Recipe
from fieldmark.seeds import derive_seed
from fieldmark.training.compiling import EAGER_BATCHES
from fieldmark.training.events import EpochDone, StepDone
from fieldmark.training.memory import explain_out_of_memory
from fieldmark.training.moments import Moment
from fieldmark.training.objectives import Objective
from fieldmark.training.optimizers import set_learning_rate, take_step
from fieldmark.training.running_loss import RunningLoss
from fieldmark.training.schedules import Schedule
from fieldmark.training.watches import IdleWatch, Watch

Mixing = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Parts:
    """What one run trains with. `model` and `optimizer` are as the accelerator prepared them.

    `compiled` is the same network as `model`, faster; None where it is not compiled.
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    objective: Objective
    mixing: Mixing | None
    averaged: AveragedModel | None
    train_loader: Batches
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None
    accelerator: Accelerator
    compiled: nn.Module | None = None
    watch: Watch = field(default_factory=IdleWatch)

    @property
    def trained_model(self) -> nn.Module:
        """The whole network that is trained, also where `model` is given stored features."""
        model: nn.Module = self.accelerator.unwrap_model(self.model)
        return model.classifier if isinstance(model, HeadOnly) else model

    @property
    def evaluated_model(self) -> nn.Module:
        """The averaged weights where there are any, else the trained ones."""
        return self.trained_model if self.averaged is None else self.averaged.module


@dataclass
class Progress:
    """Where a run stands: `batch` batches of `epoch` (from 0) are done."""

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    loss_sum: float = 0.0
    epoch_images: int = 0
    total_images: int = 0
    epoch_seconds: float = 0.0
    total_seconds: float = 0.0
    best_epoch: int = 0
    best_value: float | None = None
    epochs_without_better: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)

    def as_state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return asdict(self)


@dataclass(frozen=True)
class UpdateDone:
    """The weights changed: the moments at which a checkpoint may be written.

    `settle` brings `Progress` up to date before that, and raises where a loss was not finite.
    """

    settle: Callable[[], None]


def fit(
    parts: Parts, recipe: Recipe, progress: Progress
) -> Iterator[StepDone | EpochDone | UpdateDone]:
    """Train from `progress` to the recipe's end, to its early stop, or until the caller stops."""
    while progress.epoch < parts.schedule.num_epochs and not is_stopped(recipe, progress):
        yield from _train_epoch(parts, recipe, progress)
        yield _finish_epoch(parts, recipe, progress)


def is_stopped(recipe: Recipe, progress: Progress) -> bool:
    """Whether early stopping has ended the run."""
    return 0 < recipe.early_stop <= progress.epochs_without_better


def _train_epoch(
    parts: Parts, recipe: Recipe, progress: Progress
) -> Iterator[StepDone | UpdateDone]:
    loader = parts.train_loader
    if progress.updates == parts.schedule.num_updates:
        return  # resumed between the last update and the end of its epoch
    losses = _open_losses(parts, recipe, progress)

    def settle() -> None:
        losses.settle()
        progress.loss_sum = losses.sum

    parts.model.train()
    clock = time.perf_counter()
    batches = loader.epoch(progress.epoch, start_batch=progress.batch)
    for batch in parts.watch.waits("load", batches):
        _learn(parts, recipe, progress, batch, losses)
        progress.batch += 1
        now = time.perf_counter()
        progress.epoch_seconds += now - clock
        progress.total_seconds += now - clock
        clock = now
        yield _describe_step(parts, recipe, progress, losses)
        if _ends_group(recipe, progress.batch, loader.num_batches):
            yield UpdateDone(settle)
            if progress.updates == parts.schedule.num_updates:
                break
        clock = time.perf_counter()
    settle()


def _open_losses(parts: Parts, recipe: Recipe, progress: Progress) -> RunningLoss:
    epoch = progress.epoch

    def check(value: float, batch: int, update: int) -> None:
        if not math.isfinite(value):
            place = f"in epoch {epoch + 1}, batch {batch + 1}"
            raise NonFiniteLossError(
                f"the loss became {value} {place} {_name_cures(recipe, parts.schedule, update)}"
            )

    return RunningLoss(
        check,
        is_deferred=parts.accelerator.device.type != "cpu",
        sum=progress.loss_sum,
        count=progress.epoch_images,
    )


def _learn(
    parts: Parts, recipe: Recipe, progress: Progress, batch: Batch, losses: RunningLoss
) -> None:
    """Learn from one batch, unless too little of it was readable."""
    # Dropout and its like draw from here, so a resumed run draws the same.
    seed = derive_seed(recipe.seed, "step", progress.epoch, progress.batch)
    if parts.accelerator.device.type == "cpu":
        # torch.manual_seed would also note the seed, with a stack trace, for every kind of GPU.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
    num_batches, num_images = parts.train_loader.num_batches, len(batch.images)
    loss: Tensor | None = None
    if num_images >= min(2, recipe.optim.batch_size):
        size = _group_size(recipe, progress.batch, num_batches)

        def try_images(count: int) -> None:
            part = _take_first(batch, count)
            parts.accelerator.backward(_compute_loss(parts, recipe, progress, part))
            parts.optimizer.zero_grad(set_to_none=True)

        with explain_out_of_memory(num_images, try_images):
            loss = _compute_loss(parts, recipe, progress, batch)
            losses.add(loss, num_images, batch=progress.batch, update=progress.updates)
            with parts.watch.phase("backward"):
                parts.accelerator.backward(loss / size)
        progress.epoch_images += num_images
        progress.total_images += num_images
    else:
        losses.add(None, num_images, batch=progress.batch, update=progress.updates)
    if _ends_group(recipe, progress.batch + 1, num_batches):
        with parts.watch.phase("optimizer"):
            _update(parts, recipe, progress)


def _compute_loss(parts: Parts, recipe: Recipe, progress: Progress, batch: Batch) -> Tensor:
    with parts.watch.phase("transfer"):
        batch = _move(batch, parts.accelerator.device)
    with parts.watch.phase("forward"):
        return _run_objective(parts, recipe, progress, batch)


def _run_objective(parts: Parts, recipe: Recipe, progress: Progress, batch: Batch) -> Tensor:
    shares = parts.objective.shares(batch)  # (B, S)
    if parts.mixing is not None:
        seed = derive_seed(recipe.seed, "mixing", progress.epoch, progress.batch)
        images, shares = parts.mixing(batch.images, shares, seed)
        batch = replace(batch, images=images)
    share_done = progress.updates / parts.schedule.num_updates
    moment = Moment(progress.epoch, progress.batch, share_done)
    return parts.objective(_choose_network(parts, progress), batch, shares, moment)


def _choose_network(parts: Parts, progress: Progress) -> nn.Module:
    """The compiled network, but for a few batches that show what compiling is worth."""
    is_start = progress.epoch == 0 and progress.batch < EAGER_BATCHES
    return parts.model if parts.compiled is None or is_start else parts.compiled


def _move(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device; its positions stay where the tables are."""
    tags = batch.tags
    return replace(
        batch,
        images=batch.images.to(device, non_blocking=True),
        targets=batch.targets.to(device, non_blocking=True),
        tags=None if tags is None else tags.to(device, non_blocking=True),
    )


def _take_first(batch: Batch, count: int) -> Batch:
    return replace(
        batch,
        images=batch.images[:count],
        targets=batch.targets[:count],
        positions=batch.positions[:count],
        tags=None if batch.tags is None else batch.tags[:count],
    )


def _update(parts: Parts, recipe: Recipe, progress: Progress) -> None:
    if recipe.optim.clip_norm is not None:
        parts.accelerator.clip_grad_norm_(parts.model.parameters(), recipe.optim.clip_norm)
    lr = recipe.optim.lr * parts.schedule.factor(progress.updates)
    set_learning_rate(parts.optimizer, lr)
    take_step(parts.optimizer, scales_losses=parts.accelerator.scaler is not None)
    progress.updates += 1
    if parts.averaged is not None:
        parts.averaged.update_parameters(parts.trained_model)


def _finish_epoch(parts: Parts, recipe: Recipe, progress: Progress) -> EpochDone:
    start = time.perf_counter()
    with parts.watch.phase("metrics"):
        val = _evaluate(parts, recipe, progress)
    lr = recipe.optim.lr * parts.schedule.factor(max(0, progress.updates - 1))
    if "nll" in val:
        parts.schedule.observe(val["nll"])
    # Without a val split nothing can be selected: the newest weights are kept.
    value = val.get(recipe.select)
    is_best = value is None or is_better(recipe.select, value, progress.best_value)
    progress.epochs_without_better = 0 if is_best else progress.epochs_without_better + 1
    if is_best:
        progress.best_epoch, progress.best_value = progress.epoch + 1, value
    progress.total_seconds += time.perf_counter() - start
    done = EpochDone(
        epoch=progress.epoch + 1,
        num_epochs=parts.schedule.num_epochs,
        train_loss=progress.loss_sum / max(1, progress.epoch_images),
        val=val,
        lr=lr,
        seconds=progress.epoch_seconds,
        images_per_second=progress.epoch_images / max(progress.epoch_seconds, 1e-9),
        is_best=is_best,
    )
    progress.lines.append(done.as_line())
    progress.epoch, progress.batch = progress.epoch + 1, 0
    progress.loss_sum, progress.epoch_images, progress.epoch_seconds = 0.0, 0, 0.0
    return done


def _evaluate(parts: Parts, recipe: Recipe, progress: Progress) -> dict[str, float]:
    """Scores on val; none without one. The last update may have broken weights unseen."""
    if parts.evaluate is None:
        return {}
    try:
        return dict(parts.evaluate(parts.evaluated_model))
    except NonFiniteAnswerError as error:
        told = _name_cures(recipe, parts.schedule, max(0, progress.updates - 1))
        raise NonFiniteLossError(
            f"the loss on val became NaN after epoch {progress.epoch + 1} {told}"
        ) from error


def _ends_group(recipe: Recipe, batches_done: int, num_batches: int) -> bool:
    """Whether an update follows after this many batches of an epoch."""
    return batches_done % recipe.optim.accumulate == 0 or batches_done == num_batches


def _group_size(recipe: Recipe, batch: int, num_batches: int) -> int:
    """Batches whose gradients are averaged into the update that `batch` belongs to."""
    accumulate = recipe.optim.accumulate
    start = batch - batch % accumulate
    return min(accumulate, num_batches - start)


def _describe_step(
    parts: Parts, recipe: Recipe, progress: Progress, losses: RunningLoss
) -> StepDone:
    schedule, num_batches = parts.schedule, parts.train_loader.num_batches
    speed = progress.batch / max(progress.epoch_seconds, 1e-9)
    left = (schedule.num_epochs - progress.epoch) * num_batches - progress.batch
    if recipe.optim.max_updates:
        left = min(left, (schedule.num_updates - progress.updates) * recipe.optim.accumulate)
    return StepDone(
        epoch=progress.epoch + 1,
        num_epochs=schedule.num_epochs,
        batch=progress.batch,
        num_batches=num_batches,
        lr=recipe.optim.lr * schedule.factor(max(0, progress.updates - 1)),
        images_per_second=progress.epoch_images / max(progress.epoch_seconds, 1e-9),
        seconds_left=left / speed,
        read_loss=losses.reader(),
    )


def _name_cures(recipe: Recipe, schedule: Schedule, update: int) -> str:
    lr = recipe.optim.lr * schedule.factor(update)
    cures = [f"a lower optim.lr ({recipe.optim.lr / 10:g})", "optim.clip_norm=1.0"]
    if recipe.precision != "fp32":
        cures.append("precision=fp32")
    if recipe.optim.warmup == 0:
        cures.append("optim.warmup=0.1")
    return (
        f"(update {update + 1}) at learning rate {lr:.3g}. Try {', '.join(cures)}. "
        "The last checkpoint is from before it"
    )
