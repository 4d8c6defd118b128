"""One training run from table and recipe to a finished run folder."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from fieldmark.data.prepare import Prepared, hash_table, prepare_table
from fieldmark.data.table import Table
from fieldmark.errors import FieldmarkError, SplitError
from fieldmark.models.classifier import Classifier
from fieldmark.recipes import Recipe
from fieldmark.runs.best import Identity, save_best
from fieldmark.runs.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from fieldmark.runs.energy import EnergyMeter
from fieldmark.runs.folder import RunFolder
from fieldmark.runs.provenance import describe_environment, peak_memory_mb
from fieldmark.training.assembly import Assembler
from fieldmark.training.compiling import CompileGain
from fieldmark.training.devices import Placement, choose_placement
from fieldmark.training.events import (
    DataReady,
    EpochDone,
    Finished,
    ImagesScanned,
    Listener,
    Note,
    Profiled,
    RunOpened,
    Saved,
)
from fieldmark.training.loop import Parts, Progress, UpdateDone, fit, is_stopped
from fieldmark.training.objectives import check_objective
from fieldmark.training.resume import (
    open_run_folder,
    restore_parts,
    restore_progress,
    take_checkpoint,
)
from fieldmark.training.surroundings import own_randomness, quiet_libraries
from fieldmark.training.tensorboard import EpochBoard
from fieldmark.training.watches import StepWatch, Watch

SCAN_THREADS = min(8, os.cpu_count() or 1)


def train_run(
    table: Table,
    recipe: Recipe,
    path: Path,
    *,
    resume: bool = False,
    profile: bool = False,
    prepared: Prepared | None = None,
    spacing_seconds: float = 0.0,
    listener: Listener,
) -> RunFolder:
    """Train one run into the folder `path` and return it; everything on the way is an event.

    With `resume`, an interrupted run goes on from its last checkpoint and ends with the weights
    that it would have had; a run that is already finished is left as it is. With `profile`, the
    folder tells where the time went, and an event does.

    `prepared` is what `prepare_table` made of `table` for this recipe, where it is at hand.
    `spacing_seconds`: at the end of an epoch the checkpoint is written only if the one before is
    so old; a run that is shorter then leaves `best/` alone, and cannot be gone on with.
    """
    check_objective(recipe)
    folder = open_run_folder(path, recipe, resume)
    try:
        with quiet_libraries(folder), own_randomness():
            checkpoint = load_checkpoint(folder.last_dir)
            progress = restore_progress(checkpoint)
            resumed_at = None if checkpoint is None else (progress.epoch, progress.batch)
            listener(RunOpened(folder.path, resumed_at))
            placement = choose_placement(recipe)
            meter = EnergyMeter.start(placement.device)
            session = _Session(
                folder, recipe, placement, listener, meter, profile, prepared, spacing_seconds
            )
            session.run(table, checkpoint, progress)
    except FieldmarkError:
        # Nothing was learned yet: the corrected command may take the same name.
        if not resume:
            folder.discard_unless_trained()
        raise
    return folder


@dataclass(frozen=True)
class _Session:
    """The steps of one run, in order; each takes what the step before it returned."""

    folder: RunFolder
    recipe: Recipe
    placement: Placement
    listener: Listener
    meter: EnergyMeter
    is_watched: bool = False
    prepared: Prepared | None = None
    spacing_seconds: float = 0.0

    def run(self, table: Table, checkpoint: Checkpoint | None, progress: Progress) -> None:
        for note in table.notes:
            self.listener(Note(note))
        split = self._split(table)
        assembler = Assembler(self.folder, self.recipe, self.placement, self.listener)
        classifier, identity = assembler.build_classifier(split)
        if checkpoint is not None:
            # Before features are asked for: they are those of the weights that go on.
            classifier.load_state_dict(dict(checkpoint.weights))
        parts = assembler.assemble(classifier, identity, split)
        if checkpoint is not None:
            restore_parts(parts, checkpoint)
        if self.is_watched:
            parts = replace(parts, watch=self._watch(parts, progress))
        self._train(parts, identity, progress)
        self._tell_times(parts.watch)
        # Of a run that went on, the energy of its first part is not known.
        self._finish(progress, self.meter.read() if checkpoint is None else {})

    def _watch(self, parts: Parts, progress: Progress) -> StepWatch:
        num_batches = parts.train_loader.num_batches
        left = (parts.schedule.num_epochs - progress.epoch) * num_batches - progress.batch
        return StepWatch(self.placement.device, self.folder.trace_path, num_steps=left)

    def _tell_times(self, watch: Watch) -> None:
        if not isinstance(watch, StepWatch):
            return
        found = watch.read()
        keys = ("name", "seconds", "share", "calls")
        self.folder.save_profile(
            {
                "device": self.placement.device,
                "precision": self.placement.precision,
                "seconds": found.seconds,
                "steps": found.steps,
                "phases": [dict(zip(keys, phase, strict=True)) for phase in found.phases],
                "trace": None if found.traced is None else self.folder.trace_path.name,
                "traced_steps": found.traced,
            }
        )
        trace_path = None if found.traced is None else self.folder.trace_path
        self.listener(
            Profiled(found.seconds, found.steps, found.phases, self.folder.profile_path, trace_path)
        )

    def _split(self, table: Table) -> Table:
        """The frozen split of this run, made now or read from its folder."""
        if self.folder.split_path.is_file():
            split = self.folder.restore_table(table)
            self.folder.verify_images(split, hash_table(split))
        else:
            split = self._prepare(table)
        counts = {name: len(split.select(name)) for name in ("train", "val", "test")}
        left_out = len(self.folder.load_left_out())
        self.listener(DataReady(len(split.class_names), counts, left_out))
        if counts["train"] == 0:
            raise SplitError(f"{table.source}: no image is in the train split")
        return split

    def _prepare(self, table: Table) -> Table:
        prepared = self.prepared or prepare_table(
            table,
            self.recipe.data,
            seed=self.recipe.seed,
            num_workers=SCAN_THREADS,
            progress=lambda done, total: self.listener(ImagesScanned(done, total)),
        )
        for note in prepared.table.notes[len(table.notes) :]:
            self.listener(Note(note))
        self.folder.save_left_out(prepared.left_out)
        self.folder.save_classes(prepared.table)
        # Last, because its presence says that the data is ready.
        self.folder.save_split(prepared.table, prepared.content_hashes)
        return prepared.table

    def _train(self, parts: Parts, identity: Identity, progress: Progress) -> None:
        if self.recipe.optim.epochs == 0 and not progress.lines:
            self._keep_as_loaded(parts, identity, progress)
        with closing(EpochBoard(self.folder.path, epochs_done=progress.epoch)) as board:
            self._follow(parts, identity, progress, board)

    def _follow(
        self, parts: Parts, identity: Identity, progress: Progress, board: EpochBoard
    ) -> None:
        """Tell what happens, and keep the best and the last state."""
        saved_at = time.monotonic()
        gain = self._judge_compiling(parts, progress)
        for event in fit(parts, self.recipe, progress):
            self.meter.sample()
            if isinstance(event, UpdateDone):
                due = time.monotonic() - saved_at >= 60 * self.recipe.checkpoint_minutes
                # The end of an epoch is saved below, with its evaluation.
                if due and progress.batch < parts.train_loader.num_batches:
                    event.settle()
                    self._save_last(parts, progress)
                    saved_at = time.monotonic()
                continue
            self.listener(event)
            verdict = None if gain is None else gain.observe(progress.total_seconds)
            if verdict is not None:
                self.listener(Note(verdict))
            if isinstance(event, EpochDone):
                if event.is_best:
                    self._save_best(parts, identity, progress)
                self.folder.save_metrics(progress.lines)
                board.write(progress.lines[-1])
                if time.monotonic() - saved_at >= self.spacing_seconds:
                    self._save_last(parts, progress)
                    saved_at = time.monotonic()

    def _judge_compiling(self, parts: Parts, progress: Progress) -> CompileGain | None:
        """Whatever tells if compiling pays; a resumed run has no batches to compare with."""
        if parts.compiled is None or progress.epoch or progress.batch:
            return None
        return CompileGain(parts.schedule.num_epochs * parts.train_loader.num_batches)

    def _keep_as_loaded(self, parts: Parts, identity: Identity, progress: Progress) -> None:
        """`optim.epochs: 0`: the weights stay as they were built or loaded, as epoch 0."""
        val = dict(parts.evaluate(parts.evaluated_model)) if parts.evaluate else {}
        progress.best_value = val.get(self.recipe.select)
        progress.lines.append({"epoch": 0, **{f"val_{k}": v for k, v in val.items()}})
        self._save_best(parts, identity, progress)
        self.folder.save_metrics(progress.lines)

    def _save_best(self, parts: Parts, identity: Identity, progress: Progress) -> None:
        model = parts.evaluated_model
        scores = {
            "epoch": progress.best_epoch,
            "metric": self.recipe.select,
            "value": progress.best_value,
        }
        assert isinstance(model, Classifier)
        with parts.watch.phase("checkpoint"):
            save_best(self.folder.best_dir, model, identity, scores)
        self.listener(Saved("best", self.folder.best_dir))

    def _save_last(self, parts: Parts, progress: Progress) -> None:
        with parts.watch.phase("checkpoint"):
            save_checkpoint(self.folder.last_dir, take_checkpoint(parts, progress))
        self.listener(Saved("last", self.folder.last_dir))

    def _finish(self, progress: Progress, energy_wh: Mapping[str, float]) -> None:
        self.folder.drop_decoded()
        self.folder.save_metrics(progress.lines)
        peak = peak_memory_mb()
        speed = progress.total_images / max(progress.total_seconds, 1e-9)
        self.folder.save_environment(
            {
                **describe_environment(self.placement.device, self.placement.precision),
                "seconds": round(progress.total_seconds, 3),
                "images_per_second": round(speed, 2),
                "peak_memory_mb": round(peak, 1),
                **({"energy_wh": dict(energy_wh)} if energy_wh else {}),
            }
        )
        early = is_stopped(self.recipe, progress)
        whole = "all updates done" if self.recipe.optim.max_updates else "all epochs done"
        self.listener(
            Finished(
                path=self.folder.path,
                epochs=progress.epoch,
                best_epoch=progress.best_epoch,
                metric=self.recipe.select,
                value=progress.best_value,
                seconds=progress.total_seconds,
                images_per_second=speed,
                peak_memory_mb=peak,
                reason="stopped early" if early else whole,
            )
        )
