"""The root of the tree."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fieldmark.recipes.schema.data import Data
from fieldmark.recipes.schema.learning import Loss, Optim
from fieldmark.recipes.schema.model import Model
from fieldmark.recipes.schema.section import Metric, Section, Task


class Recipe(Section):
    """One training run, completely."""

    description: str = Field(default="", description="one line for people")
    task: Task = Field(
        default="multiclass", description="one label of many, of two, or any number of labels"
    )
    data: Data = Field(default=Data(), description="images")
    model: Model = Field(default=Model(), description="network")
    optim: Optim = Field(default=Optim(), description="optimizer")
    loss: Loss = Field(default=Loss(), description="loss")
    sampling: Literal["natural", "balanced"] = Field(
        default="natural", description="balanced: every class equally often in an epoch"
    )
    ema: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="decay of the averaged weights that are evaluated; 0: off",
    )
    select: Metric = Field(default="accuracy", description="val metric that picks the best epoch")
    early_stop: int = Field(
        default=0, ge=0, description="stop after so many epochs without a better one; 0: never"
    )
    seed: int = Field(
        default=0, ge=0, lt=2**32, description="decides split, order, augmentation and start"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, mps")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="auto: bf16 where the hardware computes in it, else fp32"
    )
    compile: bool = Field(
        default=False,
        description="compile the network to code of its own (minutes; pays on long runs only)",
    )
    workers: int = Field(
        default=-1, ge=-1, le=256, description="loader processes; -1: by the machine"
    )
    cache: str = Field(
        default="auto",
        min_length=1,
        description="where decoded images and stored features are kept: a folder (shared by "
        "runs), auto (the run's folder; images while it trains, if they are small), or off (no "
        "images; features in the run's folder). Images so kept change no bit of what is learned",
    )
    views: int = Field(
        default=2,
        ge=0,
        le=1000,
        description="frozen backbone: it runs once over so many views of a training image (plain, "
        "then flips, then draws of the augmentation), the head trains on stored features; 0: it "
        "runs in each epoch",
    )
    checkpoint_minutes: float = Field(
        default=10.0,
        ge=0.0,
        description="checkpoint within an epoch after so long; 0: every update",
    )
