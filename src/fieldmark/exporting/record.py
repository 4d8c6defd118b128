"""What an ONNX file says of itself: enough to classify with it and nothing else at hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from fieldmark.errors import ExportError
from fieldmark.evaluation.trust import Calibration
from fieldmark.exporting.preprocessing import Preprocessing
from fieldmark.recipes.schema import Task

FORMAT = 1
KEY = "fieldmark"
INPUT, OUTPUT = "images", "logits"


@dataclass(frozen=True)
class ArtifactRecord:
    """Everything about an artifact apart from its graph.

    transform: the run's `TransformRecord` as JSON's own types. threshold: from which probability
    on a class is said to be there, where classes do not exclude each other; None for multi-class.
    weights: digest of what it was exported from. precision: fp32 or int8. kept_fp32: layers that
    int8 leaves as they are. calibration: temperature and thresholds of the run, None where it had
    none. proved: runtimes that agreed with the run when it was exported.
    """

    task: Task
    class_names: tuple[str, ...]
    transform: Mapping[str, Any]
    model: str
    precision: str
    opset: int
    threshold: float | None
    weights: str
    version: str
    kept_fp32: tuple[str, ...] = ()
    calibration: Calibration | None = None
    proved: tuple[str, ...] = ()

    @property
    def preprocessing(self) -> Preprocessing:
        """The transform without torch."""
        return Preprocessing.from_json(self.transform)

    def to_metadata(self) -> dict[str, str]:
        """Metadata of an ONNX file; the keys beside `fieldmark` are for other readers."""
        values = {
            "format": FORMAT,
            "task": self.task,
            "class_names": list(self.class_names),
            "transform": dict(self.transform),
            "model": self.model,
            "precision": self.precision,
            "opset": self.opset,
            "threshold": self.threshold,
            "weights": self.weights,
            "version": self.version,
            "kept_fp32": list(self.kept_fp32),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "proved": list(self.proved),
        }
        metadata = {
            KEY: json.dumps(values, ensure_ascii=False),
            "class_names": json.dumps(list(self.class_names), ensure_ascii=False),
            "preprocessing": json.dumps(dict(self.transform)),
            "task": self.task,
            "fieldmark_version": self.version,
        }
        if self.calibration is not None:
            metadata["calibration"] = json.dumps(self.calibration.to_json())
        return metadata

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], place: object) -> Self:
        """Read what `to_metadata` wrote into the file `place`; raise `ExportError` otherwise."""
        if KEY not in metadata:
            raise ExportError(
                f"{place}: says neither its classes nor its preprocessing, so fieldmark did not "
                "export it. `fieldmark export RUN` makes a file that does"
            )
        try:
            values = json.loads(metadata[KEY])
            if values["format"] != FORMAT:
                raise ExportError(
                    f"{place}: is of format {values['format']}, and this version of fieldmark "
                    f"reads {FORMAT}. Export the run again"
                )
            # Earlier files say nothing of it, nor of what was proved.
            calibration = values.get("calibration")
            record = cls(
                task=values["task"],
                class_names=tuple(map(str, values["class_names"])),
                transform=dict(values["transform"]),
                model=str(values["model"]),
                precision=str(values["precision"]),
                opset=int(values["opset"]),
                threshold=values["threshold"],
                weights=str(values["weights"]),
                version=str(values["version"]),
                kept_fp32=tuple(map(str, values["kept_fp32"])),
                calibration=None if calibration is None else Calibration.from_json(calibration),
                proved=tuple(map(str, values.get("proved", ()))),
            )
            record.preprocessing  # noqa: B018 - faults belong here
        except (KeyError, TypeError, ValueError) as error:
            raise ExportError(
                f"{place}: its metadata were changed: {error!r}. Export the run again"
            ) from error
        return record
