"""`Artifact`: an exported ONNX file that classifies; imports no torch.

A folder made by `fieldmark export` stands for the file in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from fieldmark.cores import num_cores
from fieldmark.data.images import decode_pixels
from fieldmark.data.stores import without_place
from fieldmark.data.table import Table
from fieldmark.errors import ExportError, FieldmarkError, UnreadableImageError
from fieldmark.evaluation.answers import PredictedRow
from fieldmark.evaluation.caution import NO_CAUTION, Asked, Caution, ask_caution
from fieldmark.evaluation.conformal import refuse_multilabel
from fieldmark.evaluation.inputs import read_inputs
from fieldmark.evaluation.rejection import RejectionRule
from fieldmark.evaluation.trust import Calibration
from fieldmark.exporting.file_runtimes import (
    FEWEST_IMAGES,
    TIMED_IMAGES,
    FileChoice,
    check_file_backend,
    choose_runtime,
)
from fieldmark.exporting.packages import need_package
from fieldmark.exporting.preprocessing import Preprocessing
from fieldmark.exporting.record import INPUT, ArtifactRecord
from fieldmark.exporting.runtimes import Network, open_session
from fieldmark.recipes.schema import Task
from fieldmark.runs.answers import ClassProbability

MODEL_NAME = "model.onnx"
BATCH_SIZE = 16
Progress = Callable[[int, int], None]
Values = NDArray[np.float32]
Scores = NDArray[np.float64]
Floating = TypeVar("Floating", np.float32, np.float64)


def find_artifact(path: Path) -> Path | None:
    """The ONNX file that `path` is or holds; None where it is something else, as a run folder."""
    if path.suffix == ".onnx":
        return path
    inside = path / MODEL_NAME
    return inside if inside.is_file() and not (path / "recipe.yaml").is_file() else None


@dataclass(frozen=True)
class Artifact:
    """An ONNX file with its record, run by ONNX Runtime on the CPU."""

    path: Path
    record: ArtifactRecord
    session: Any

    def __call__(self, images: Values) -> Values:
        """(B, 3, H, W) -> logits (B, outputs)."""
        logits: Values = self.session.run(None, {INPUT: images})[0]
        return logits

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """RGB image -> (3, H, W)."""
        return self.record.preprocessing

    def caution(self, **asked: Unpack[Asked]) -> Caution:
        """Ask `predict` for more than the most probable classes, as `Run.caution` does.

        Raises `ExportError` where the file holds no calibration.
        """
        return ask_caution(self.record.task, self._find_calibration, **asked)

    def predict(
        self,
        inputs: Iterable[str | Path],
        *,
        top: int = 5,
        columns: Mapping[str, str] | None = None,
        image_root: str | Path | None = None,
        allow_outside: bool = False,
        caution: Caution = NO_CAUTION,
        backend: str = "auto",
        told: Callable[[FileChoice], None] | None = None,
        progress: Progress | None = None,
    ) -> list[PredictedRow]:
        """Classify files, folders and tables as `Run.predict` does; rows in input order.

        `backend` is one of `FILE_BACKENDS`; `told` hears which one was chosen.
        """
        check_file_backend(backend, self.path)
        if top < 1:
            raise FieldmarkError(f"top: expected a number of classes from 1, not {top}")
        if caution != NO_CAUTION:
            refuse_multilabel(self.record.task)
        tables = read_inputs(inputs, columns or {}, image_root, allow_outside)
        total = sum(map(len, tables))
        choice = self._choose(tables, backend)
        if told is not None:
            told(choice)
        rows: list[PredictedRow] = []
        for table in tables:
            for batch in _decoded_ahead(table, self.preprocessing):
                rows += self._classify(batch, choice.network, top, caution)
                if progress is not None:
                    progress(len(rows), total)
        return rows

    def _classify(
        self, batch: Sequence[_Decoded], network: Network, top: int, caution: Caution
    ) -> Iterator[PredictedRow]:
        readable = [entry.values for entry in batch if entry.values is not None]
        answers: Iterator[PredictedRow] = iter(())
        if readable:
            answers = self._answer(network(np.stack(readable)), top, caution)
        for entry in batch:
            if entry.values is None:
                yield PredictedRow(entry.image, error=entry.reason)
            else:
                yield replace(next(answers), image=entry.image)

    def _answer(self, logits: Values, top: int, caution: Caution) -> Iterator[PredictedRow]:
        """Rows without an image's name, of logits (B, outputs)."""
        exact: Scores = logits.astype(np.float64)
        plain = probabilities(exact, self.record.task)  # (B, K)
        shown = plain
        if caution.temperature != 1.0:
            shown = probabilities(exact / caution.temperature, self.record.task)
        # Among equals the lower index comes first, as the run has it.
        order = np.argsort(-plain, axis=1, kind="stable")
        ranked = np.take_along_axis(plain, order, axis=1)
        names = self.record.class_names
        sizes = None if caution.sets is None else caution.sets.choose(ranked)  # (B,)
        unknown = None if caution.rejection is None else _reject(caution.rejection, exact, shown)
        for place, classes in enumerate(order):
            best = classes[:top]
            yield PredictedRow(
                "",
                tuple(ClassProbability(names[k], float(shown[place, k])) for k in best),
                label_set=None
                if sizes is None
                else tuple(names[k] for k in classes[: sizes[place]]),
                unknown=None if unknown is None else bool(unknown[place]),
            )

    def _choose(self, tables: Sequence[Table], backend: str) -> FileChoice:
        total = sum(map(len, tables))
        images: Values = np.zeros((0, 3, 1, 1), dtype=np.float32)
        if total >= FEWEST_IMAGES:
            longest = max(tables, key=len)
            some = [row.image for row in longest.rows[:TIMED_IMAGES]]
            decoded = (_decode(longest, name, self.preprocessing).values for name in some)
            readable = [values for values in decoded if values is not None]
            images = np.stack(readable) if readable else images
        return choose_runtime(
            self.path,
            self.record,
            self,
            images,
            backend,
            num_images=total,
            threads=num_cores(),
        )

    def _find_calibration(self) -> Calibration:
        if self.record.calibration is None:
            raise ExportError(
                f"{self.path}: holds no temperature and no thresholds, because its run had none "
                "when it was exported. `fieldmark evaluate RUN --calibrate` fits them, and "
                "`fieldmark export RUN` then writes them into the file"
            )
        return self.record.calibration


def _reject(rule: RejectionRule, logits: Scores, shown: Scores) -> NDArray[np.bool_]:
    """(B,) true where the score is below the threshold."""
    if rule.score == "probability":
        scores = shown.max(axis=1)
    else:
        highest = logits.max(axis=1, keepdims=True)
        scores = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
    # Rounded as in the predictions of the run, whose thresholds are such scores.
    rejected: NDArray[np.bool_] = scores.astype(np.float32).astype(np.float64) < rule.threshold
    return rejected


def open_artifact(path: Path, *, threads: int = 0) -> Artifact:
    """Load an exported file; `threads` 0 uses all cores. Raises `ExportError`."""
    need_package("onnxruntime", extra="onnx", what="an ONNX file")
    if not path.is_file():
        raise ExportError(f"{path}: there is no such file. `fieldmark export RUN` makes one")
    session = open_session(path, threads=threads)
    metadata = session.get_modelmeta().custom_metadata_map
    return Artifact(path, ArtifactRecord.from_metadata(metadata, path), session)


def probabilities(logits: NDArray[Floating], task: Task) -> NDArray[Floating]:
    """(B, outputs) -> (B, K), one rule per task, as `models.probabilities` has them."""
    if task == "multiclass":
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: NDArray[Floating] = shifted / shifted.sum(axis=1, keepdims=True)
        return shares
    if task == "binary":
        logits = np.concatenate([-logits, logits], axis=1)
    # Halves of the real line apart, so that no exponential overflows.
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))


@dataclass(frozen=True)
class _Decoded:
    """An image ready for the network, or the reason why there is none."""

    image: str
    values: Values | None = None
    reason: str = ""


def _decoded_ahead(table: Table, preprocess: Preprocessing) -> Iterator[list[_Decoded]]:
    """Batches in order; the next ones are decoded while the network works on one."""
    names = [row.image for row in table.rows]
    starts = range(0, len(names), BATCH_SIZE)

    def decode(start: int) -> list[_Decoded]:
        return [_decode(table, name, preprocess) for name in names[start : start + BATCH_SIZE]]

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead: list[Future[list[_Decoded]]] = []
        for start in starts:
            ahead.append(pool.submit(decode, start))
            if len(ahead) > 2:
                yield ahead.pop(0).result()
        for future in ahead:
            yield future.result()


def _decode(table: Table, name: str, preprocess: Preprocessing) -> _Decoded:
    try:
        return _Decoded(name, preprocess(decode_pixels(table.store.read(name))))
    except UnreadableImageError as error:
        return _Decoded(name, reason=without_place(str(error), name))
