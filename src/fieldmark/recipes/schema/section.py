"""What every section of a recipe is, and the kinds of values that several have."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Task = Literal["multiclass", "binary", "multilabel"]
Metric = Literal[
    "accuracy", "balanced_accuracy", "top5_accuracy", "macro_f1", "kappa", "sum", "nll"
]


class Section(BaseModel):
    """A part of the recipe: unknown keys are faults, values never change."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )

    word_key: ClassVar[str | None] = None
    """The key that is meant where one word is given for the section: `patches: rotated`."""

    @model_validator(mode="before")
    @classmethod
    def _take_word(cls, values: Any) -> Any:
        is_word = cls.word_key is not None and not isinstance(values, dict | BaseModel)
        return {cls.word_key: values} if is_word else values
