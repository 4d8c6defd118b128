"""From the recipe's `loss.distill` to a `Distillation`: the teacher, its view, its answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldmark.data.loaders import Loader, build_loader
from fieldmark.data.table import Table
from fieldmark.errors import RecipeError
from fieldmark.recipes import Recipe
from fieldmark.runs.folder import RunFolder
from fieldmark.runs.teacher_answers import (
    Origin,
    load_teacher_answers,
    save_teacher_answers,
)
from fieldmark.training.devices import Placement
from fieldmark.training.distillation import (
    Answers,
    Distillation,
    LiveAnswers,
    StoredAnswers,
    ask_all,
)
from fieldmark.training.events import Listener, Note, TeacherAsked
from fieldmark.training.teachers import Teacher, load_teacher
from fieldmark.transforms import TransformRecord, build_eval_transform, is_random

BATCH_SIZE = 64


@dataclass(frozen=True)
class Schooling:
    """Finds the teacher of a run and asks it, where it is asked once, about every image."""

    folder: RunFolder
    recipe: Recipe
    placement: Placement
    listener: Listener

    def build(self, train: Table, student: TransformRecord) -> Distillation | None:
        """The teacher's part of the loss; None where its share is 0.

        `student` is what the student's images are made by. Raises what `load_teacher` does, and
        `RunChangedError` where stored answers are not of this run.
        """
        distill = self.recipe.loss.distill
        if distill.alpha == 0.0:
            self.listener(Note("loss.distill.alpha is 0, so the teacher is not asked."))
            return None
        is_stored = distill.view == "plain" or not self._varies(student)
        ask: Answers
        if is_stored:
            ask = self._recall(train, student)
        else:
            teacher = self._load(train)
            if teacher.encode_tags is not None:
                raise RecipeError(
                    f"loss.distill.view: the teacher {teacher.name} reads tags, which view same "
                    "does not show it. Set loss.distill.view=plain"
                )
            ask = LiveAnswers(teacher, student, self.placement.device, self.placement.precision)
        return Distillation(ask, is_stored, distill.mode, distill.alpha, distill.tau)

    def _varies(self, student: TransformRecord) -> bool:
        """Whether an image looks different each time the student sees it."""
        loss = self.recipe.loss
        return is_random(student.augment) or loss.mixup > 0.0 or loss.cutmix > 0.0

    def _load(self, train: Table) -> Teacher:
        name = str(self.recipe.loss.distill.teacher)
        return load_teacher(name, train.class_names, self.placement.device)

    def _recall(self, train: Table, student: TransformRecord) -> StoredAnswers:
        """The stored answers; asked for now where there are none yet."""
        distill = self.recipe.loss.distill
        origin = Origin(str(distill.teacher), distill.view, _digest(train), train.class_names)
        path, num_images = self.folder.teacher_dir, len(train)
        found = load_teacher_answers(path, origin, num_images=num_images)
        if found is None:
            blocks = self._ask(self._load(train), train, student)
            save_teacher_answers(path, origin, num_images=num_images, blocks=blocks)
            found = load_teacher_answers(path, origin, num_images=num_images)
            assert found is not None
        return StoredAnswers(found)

    def _ask(
        self, teacher: Teacher, train: Table, student: TransformRecord
    ) -> Iterator[NDArray[np.float32]]:
        is_plain = self.recipe.loss.distill.view == "plain"
        loader = self._build_loader(teacher, train, teacher.transform if is_plain else student)
        blocks = ask_all(
            teacher,
            loader,
            given=None if is_plain else student,
            device=self.placement.device,
            precision=self.placement.precision,
        )
        done = 0
        for logits in blocks:
            yield logits
            done += len(logits)
            self.listener(TeacherAsked(done, len(train)))

    def _build_loader(self, teacher: Teacher, train: Table, record: TransformRecord) -> Loader:
        return build_loader(
            train,
            build_eval_transform(record),
            batch_size=BATCH_SIZE,
            order=None,
            seed=self.recipe.seed,
            num_workers=self.placement.num_workers,
            encode_tags=teacher.encode_tags,
        )


def _digest(table: Table) -> str:
    """A fingerprint of which image stands in which row."""
    digest = hashlib.blake2b(digest_size=16)
    for row in table.rows:
        digest.update(row.image.encode("utf-8", "surrogateescape") + b"\x00")
    return digest.hexdigest()
