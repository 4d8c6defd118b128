"""`optim` and `loss`: how a network is trained."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from fieldmark.recipes.schema.section import Section, Share


class Optim(Section):
    """The optimizer and its schedule."""

    name: Literal["sgd", "adam", "adamw"] = Field(default="adamw", description="update rule")
    lr: float = Field(default=1e-3, gt=0.0, le=100.0, description="peak learning rate")
    weight_decay: float = Field(
        default=0.05, ge=0.0, le=10.0, description="adam: L2; adamw: decoupled"
    )
    decay_all: bool = Field(
        default=False, description="weight decay on biases, norms and single vectors too"
    )
    eps: float = Field(default=1e-8, gt=0.0, lt=1.0, description="adam, adamw: added to the root")
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0, description="sgd's momentum; adam's beta1")
    batch_size: int = Field(default=32, ge=1, le=65536, description="images per step and process")
    accumulate: int = Field(default=1, ge=1, le=1024, description="batches per update")
    clip_norm: float | None = Field(
        default=None, gt=0.0, description="largest gradient norm; null: any"
    )
    epochs: int = Field(default=10, ge=0, le=100000, description="0 keeps the weights as loaded")
    max_updates: int = Field(
        default=0,
        ge=0,
        description="end after so many updates, mid-epoch if need be, in place of epochs; 0: off",
    )
    warmup: float = Field(
        default=0.0, ge=0.0, description="below 1: share of all updates; from 1: number of updates"
    )
    schedule: Literal["constant", "cosine", "step", "plateau", "constant_epoch"] = Field(
        default="cosine",
        description="step: times decay every decay_epochs; constant_epoch: times decay at 40% and "
        "80% of the epochs; plateau: times decay after patience epochs without a lower val loss",
    )
    decay: float = Field(
        default=1 / 3, gt=0.0, lt=1.0, description="factor of step, plateau, constant_epoch"
    )
    decay_epochs: int = Field(default=10, ge=1, description="interval of schedule: step")
    patience: int = Field(default=5, ge=0, description="epochs that schedule: plateau waits")
    layer_decay: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="learning rate of each block relative to the next one",
    )


class Distill(Section):
    """A second network whose answers are learned from."""

    word_key: ClassVar[str | None] = "teacher"

    teacher: str | None = Field(
        default=None,
        description="a run's folder, or a timm name with published weights for the same classes",
    )
    mode: Literal["hard", "soft"] = Field(
        default="hard", description="hard: the teacher's first class; soft: its probabilities"
    )
    alpha: Share = Field(default=0.5, description="share of the loss that the teacher gives")
    tau: float = Field(
        default=1.0, gt=0.0, le=100.0, description="soft: temperature of both networks"
    )
    view: Literal["same", "plain"] = Field(
        default="same",
        description="what the teacher sees: the student's augmented image, or the plain one (its "
        "answers are then computed once)",
    )


class Loss(Section):
    """What training minimises."""

    label_smoothing: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="mass spread over all classes"
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="balanced: each class weighs images / (classes x its images)"
    )
    focal: float = Field(
        default=0.0, ge=0.0, le=10.0, description="focusing exponent gamma; 0: off"
    )
    logit_adjustment: float = Field(
        default=0.0,
        ge=0.0,
        le=10.0,
        description="tau times log prior added to logits in training; 0: off",
    )
    mixup: float = Field(default=0.0, ge=0.0, le=10.0, description="alpha of mixup; 0: off")
    cutmix: float = Field(default=0.0, ge=0.0, le=10.0, description="alpha of cutmix; 0: off")
    distill: Distill = Field(default=Distill(), description="learning from a teacher")
    exclusion: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="reward for class tokens that differ between layers (ifa; Animesion 0.01)",
    )
    exclusion_distance: int = Field(default=2, ge=1, le=64, description="layers between the two")
    exclusion_tau: float = Field(default=1.0, gt=0.0, le=100.0, description="their temperature")
