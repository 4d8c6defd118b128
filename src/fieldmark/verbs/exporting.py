"""`export`: a run in, an artifact with its proof out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch

from fieldmark.data.scan import hash_content
from fieldmark.data.sources import build_table
from fieldmark.data.table import Table
from fieldmark.errors import ExportError, ParityError, hint
from fieldmark.evaluation.predictions import THRESHOLD
from fieldmark.exporting import processor
from fieldmark.exporting.artifact import MODEL_NAME
from fieldmark.exporting.onnx_export import OPSET, export_onnx, save_model
from fieldmark.exporting.packages import need_package
from fieldmark.exporting.parity import (
    FEW_IMAGES,
    Parity,
    Runtime,
    holds,
    holds_in_use,
    measure_runtime,
)
from fieldmark.exporting.record import ArtifactRecord
from fieldmark.exporting.runtimes import has_openvino, run_with_onnxruntime, run_with_openvino
from fieldmark.exporting.samples import Samples, compare_answers, read_samples
from fieldmark.exporting.timm_folder import copy_timm_folder, run_with_timm
from fieldmark.runs.best import load_best
from fieldmark.runs.checkpoints import WEIGHTS_NAME
from fieldmark.runs.files import save_folder, save_json
from fieldmark.runs.predictor import Predictor
from fieldmark.runs.provenance import fieldmark_version
from fieldmark.verbs.run import Run

if TYPE_CHECKING:
    from fieldmark.exporting.quantization import Quantized

Format = Literal["onnx", "timm"]
Precision = Literal["fp32", "int8"]
Tell = Callable[[str], None]

PARITY_NAME = "parity.json"
NUM_IMAGES = 256
NUM_CALIBRATION = 128
NUM_CHOOSING = 512
_OF_FP32 = (
    "temperature and thresholds are those of the run, found with fp32: in int8 about as many "
    "images are covered and answered"
)


@dataclass(frozen=True)
class Exported:
    """An artifact: its folder, the file in it (of `onnx`), and the proof."""

    folder: Path
    file: Path
    format: str
    parity: Parity


def export(
    run: Run,
    *,
    format: str = "onnx",
    precision: str = "fp32",
    out: str | Path | None = None,
    images: int = NUM_IMAGES,
    tell: Tell = lambda _: None,
) -> Exported:
    """Export the selected weights, and prove on up to `images` test and validation images that
    the artifact says the same.

    `out` defaults to `RUN/export/<format>-<precision>`. Raises `ExportError` for what cannot be
    exported, `ParityError` where the artifact differs by more than the bound; it is not kept then.
    """
    _check_choice("format", format, get_args(Format))
    _check_choice("precision", precision, get_args(Precision))
    if images < 1:
        raise ExportError(f"--images: expected a number of images from 1, not {images}")
    if format == "timm" and precision != "fp32":
        raise ExportError("--precision int8: goes with --format onnx; timm's weights are fp32")
    folder = Path(out) if out is not None else run.path / "export" / f"{format}-{precision}"
    folder = folder.absolute()
    _check_folder(folder)
    if precision == "int8":
        processor.check_int8()
    predictor = run.predictor()
    if predictor.encode_tags is not None:
        raise ExportError(
            f"{run.path}: its network reads tags, and an artifact holds no tag vocabulary: only "
            "fieldmark runs it. Export a run trained with model.tags=off"
        )
    making = _Making(run, predictor, folder, images, tell)
    return making.timm() if format == "timm" else making.onnx(precision)


@dataclass(frozen=True)
class _Making:
    """One export under way."""

    run: Run
    predictor: Predictor
    folder: Path
    images: int
    tell: Tell

    def timm(self) -> Exported:
        """The folder of `best/`, where the network is timm's own."""

        def fill(part: Path) -> Parity:
            copy_timm_folder(self.run.folder.find_best(), part)
            samples, where = self._proof_images()
            found = measure_runtime("timm", run_with_timm(part), self.predictor, samples)
            return Parity("fp32", len(samples), where, _threads(), (found,))

        return self._save(fill, "timm", self.folder)

    def onnx(self, precision: str) -> Exported:
        """One ONNX file."""
        need_package("onnxruntime", extra="onnx", what="the proof of an ONNX file")

        def fill(part: Path) -> Parity:
            self.tell("exporting to ONNX ...")
            path = part / MODEL_NAME
            record = self._record()
            export_onnx(self.predictor.classifier, record, path)
            samples, where = self._proof_images()
            kept: tuple[str, ...] = ()
            notes: tuple[str, ...] = ()
            calibration = ""
            if precision == "int8":
                found = self._quantize(path, record, samples.table)
                kept, calibration = found.kept_fp32, found.calibration
                if record.calibration is not None:
                    notes = (_OF_FP32,)
            self.tell(f"comparing on {len(samples)} images ...")
            runtimes = self._runtimes(path, samples)
            _note_proved(path, precision, runtimes)
            return Parity(
                precision,
                len(samples),
                where,
                _threads(),
                runtimes,
                kept,
                calibration,
                notes,
            )

        return self._save(fill, "onnx", self.folder / MODEL_NAME)

    def _quantize(self, path: Path, record: ArtifactRecord, proof: Table) -> Quantized:
        """Replace the fp32 file by the first int8 graph that keeps the bound elsewhere.

        No image of `proof` has a part in it.
        """
        import onnx

        from fieldmark.exporting.quantization import outputs_of, quantize

        table = self._table().select("train")
        count = min(NUM_CALIBRATION, (len(table) + 1) // 2)  # the others may have to choose
        self.tell(f"calibrating on {count} training images ...")
        calibration = read_samples(self.predictor, table, count)
        taken = {row.image for row in (*proof.rows, *calibration.table.rows)}
        choosing, where = self._choosing_images(taken)
        found: Quantized | None = None
        for found in quantize(onnx.load(path), calibration.images):
            changed = replace(record, precision="int8", kept_fp32=found.kept_fp32)
            logits = outputs_of(found.model, choosing.images, threads=_threads())
            agreement = compare_answers(choosing, logits)
            save_model(found.model, changed, path)
            kept = f", {len(found.kept_fp32)} layers in fp32" if found.kept_fp32 else ""
            self.tell(
                f"int8{kept}: {agreement.top1:.1%} of the decisions on {len(choosing)} {where} "
                "images are the same"
            )
            if holds("int8", agreement):
                break
        if found is None:
            raise ExportError("int8: the network has no layer that could be computed in 8 bits")
        told = f"{found.calibration}; layers of fp32 chosen on {len(choosing)} {where} images"
        return replace(found, calibration=told)

    def _choosing_images(self, taken: set[str]) -> tuple[Samples, str]:
        """Validation images, or for want of them training images, that are not `taken`."""
        for split in ("val", "train"):
            table = self._table().select(split)
            free = [row for row in table.rows if row.image not in taken]
            if len(free) >= min(self.images, FEW_IMAGES) or (split == "train" and free):
                found = read_samples(self.predictor, table.with_rows(free), NUM_CHOOSING)
                return found, "validation" if split == "val" else "training"
        raise ExportError(
            f"{self.run.path}: int8 needs images beside those of the proof and of its ranges, to "
            "choose what stays in fp32, and there are none. Give the proof fewer by --images, or "
            "use --precision fp32"
        )

    def _runtimes(self, path: Path, samples: Samples) -> tuple[Runtime, ...]:
        threads = _threads()
        networks = {"onnxruntime": run_with_onnxruntime(path, threads=threads)}
        if has_openvino():
            networks["openvino"] = run_with_openvino(path, threads=threads, exact=True)
            networks["openvino-bf16"] = run_with_openvino(path, threads=threads, exact=False)
        return tuple(
            measure_runtime(name, network, self.predictor, samples)
            for name, network in networks.items()
        )

    def _record(self) -> ArtifactRecord:
        best = self.run.folder.find_best()
        _, identity = load_best(best)
        return ArtifactRecord(
            task=identity.task,
            class_names=identity.class_names,
            transform=identity.transform.to_json(),
            model=identity.model.name,
            precision="fp32",
            opset=OPSET,
            threshold=None if identity.task == "multiclass" else THRESHOLD,
            weights=hash_content((best / WEIGHTS_NAME).read_bytes()),
            version=fieldmark_version(),
            calibration=self.run.load_calibration(),
        )

    def _proof_images(self) -> tuple[Samples, str]:
        """Test images, with validation images where there are too few of them."""
        table = self._table()
        test, val = table.select("test"), table.select("val")
        chosen, where = test, "test"
        if len(test) < self.images and len(val):
            chosen = test.with_rows([*test.rows, *val.rows])
            where = "test and val" if len(test) else "val"
        if not len(chosen):
            raise ExportError(f"{self.run.path}: has no test or validation images to compare on")
        return read_samples(self.predictor, chosen, self.images), where

    def _table(self) -> Table:
        source = self.run.table or build_table(self.run.recipe.data, self.run.recipe.task)
        return self.run.folder.restore_table(source)

    def _save(self, fill: Callable[[Path], Parity], format: str, file: Path) -> Exported:
        """Write the folder whole with its proof, or not at all."""
        made: list[Parity] = []

        def fill_and_prove(part: Path) -> None:
            parity = fill(part)
            if parity.num_images < FEW_IMAGES:
                few = f"{parity.num_images} images are fewer than the {FEW_IMAGES} of a sure proof"
                parity = replace(parity, notes=(*parity.notes, few))
            if not parity.passed:
                failed = self.folder.with_name(f"{self.folder.name}-failed-{PARITY_NAME}")
                save_json(failed, parity.to_json())
                raise ParityError(_differs(parity, failed))
            save_json(part / PARITY_NAME, parity.to_json())
            made.append(parity)

        save_folder(self.folder, fill_and_prove)
        return Exported(self.folder, file, format, made[0])


def _note_proved(path: Path, precision: str, runtimes: tuple[Runtime, ...]) -> None:
    """Write into the file which runtimes it was proved with."""
    import onnx

    model = onnx.load(path)
    known = {entry.key: entry.value for entry in model.metadata_props}
    proved = tuple(r.name for r in runtimes if holds_in_use(precision, r.agreement))
    save_model(model, replace(ArtifactRecord.from_metadata(known, path), proved=proved), path)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ExportError(
            f"--{name} {value}: expected one of {', '.join(choices)}.{hint(value, choices)}"
        )


def _check_folder(folder: Path) -> None:
    """Refuse to replace what is no earlier export."""
    is_taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if is_taken and not (folder / PARITY_NAME).is_file():
        raise ExportError(
            f"{folder}: is already there and is no earlier export. Give another folder by --out"
        )


def _differs(parity: Parity, report: Path) -> str:
    found = parity.runtimes[0].agreement
    return (
        f"the exported network differs from the run: {found.top1:.2%} of the decisions on "
        f"{parity.num_images} images are the same, the largest difference of a probability is "
        f"{found.max_difference:.2g}; expected: {parity.bound}. The artifact is not kept; the "
        f"report is {report}"
    )


def _threads() -> int:
    return torch.get_num_threads()
