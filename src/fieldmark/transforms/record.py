"""`TransformRecord`: what turns an image into a tensor, as plain values stored with the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from fieldmark.errors import ModelError, RunError, hint
from fieldmark.recipes.schema import Augment, Data, Statistics

Resize = Literal["squash", "shorter", "pad"]
Interpolation = Literal["bicubic", "bilinear"]


def _check_std(std: tuple[float, float, float]) -> tuple[float, float, float]:
    if min(std) <= 0.0:
        raise ValueError(f"each standard deviation must be above 0, not {list(std)}")
    return std


@dataclass(frozen=True)
class TransformRecord:
    """The one source of the evaluation and the training pipeline.

    `crop` is the share of each side that evaluation keeps; `mean` and `std` are per channel (red,
    green, blue) of pixels scaled to 0..1; the rest is as in the recipe's section `data`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    image_size: Annotated[int, Field(ge=1)]
    resize: Resize
    crop: Annotated[float, Field(gt=0.0, le=1.0)]
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: Annotated[tuple[float, float, float], AfterValidator(_check_std)]
    augment: Augment

    def to_json(self) -> dict[str, Any]:
        """The record as JSON's own types."""
        values: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return values

    @classmethod
    def from_json(cls, values: object) -> TransformRecord:
        """Read what `to_json` wrote; raise `RunError` that names every fault."""
        try:
            return _ADAPTER.validate_python(values)
        except ValidationError as error:
            faults = [f"  {_explain(detail)}" for detail in error.errors()]
            raise RunError(
                "the record of the image transform cannot be used:\n"
                + "\n".join(faults)
                + "\nIt was written with the run: restore the file, or train again"
            ) from error


_ADAPTER = TypeAdapter(TransformRecord)


def build_transform_record(
    data: Data,
    *,
    model_statistics: Statistics,
    dataset_statistics: Callable[[], Statistics],
    interpolation: str,
) -> TransformRecord:
    """Resolve the recipe's `data` into plain numbers.

    `model_statistics` are those the weights were made with; `dataset_statistics` is called only
    where `data.normalize` asks for it, since it reads the whole training split.
    """
    statistics = _resolve(data.normalize, model_statistics, dataset_statistics)
    return TransformRecord(
        image_size=data.image_size,
        resize=data.resize,
        crop=data.crop,
        interpolation=check_interpolation(interpolation),
        mean=statistics.mean,
        std=statistics.std,
        augment=data.augment,
    )


_FIXED_STATISTICS = {
    "half": Statistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "imagenet": Statistics(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "none": Statistics(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
}


def _resolve(
    normalize: str | Statistics, model: Statistics, dataset: Callable[[], Statistics]
) -> Statistics:
    if isinstance(normalize, Statistics):
        return normalize
    if normalize == "model":
        return model
    if normalize == "dataset":
        return dataset()
    return _FIXED_STATISTICS[normalize]


def check_interpolation(name: str) -> Interpolation:
    """The name as a known interpolation; raise `ModelError` for any other."""
    for known in get_args(Interpolation):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise ModelError(
        f"interpolation '{name}': expected one of {', '.join(get_args(Interpolation))}."
        f"{hint(name, get_args(Interpolation))}"
    )


def _explain(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = Augment.model_fields if "." in key else [f.name for f in fields(TransformRecord)]
        return f"{key}: there is no such key.{hint(key.split('.')[-1], known)}"
    if detail["type"] in ("missing", "missing_argument"):
        return f"{key}: is missing"
    reason = detail["msg"].removeprefix("Value error, ")
    return f"{key or 'the record'}: {reason}, not {detail['input']!r}"
