"""`data`: the images, how they are divided, prepared and varied."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from fieldmark.recipes.schema.section import Section, Share


class Split(Section):
    """How images are divided where the data does not say so itself."""

    ratios: tuple[Share, Share, Share] = Field(
        default=(0.7, 0.1, 0.2),
        description="shares of train, val and test (or of train and test); they sum to 1",
    )
    rule: Literal["exact", "as_published"] = Field(
        default="exact",
        description="exact: stratified by largest remainder, duplicates and groups on one side; "
        "as_published: the arithmetic of the papers (with three parts Animesion's unshuffled "
        "float rule, with two scikit-learn's stratified shuffle), duplicates ignored",
    )
    near_duplicates: bool = Field(
        default=True, description="keep pictures that look alike on one side (perceptual hash)"
    )

    @field_validator("ratios", mode="before")
    @classmethod
    def _two_parts_have_no_val(cls, ratios: object) -> object:
        is_pair = isinstance(ratios, list | tuple) and len(ratios) == 2
        return (ratios[0], 0.0, ratios[1]) if is_pair else ratios  # type: ignore[index]

    @field_validator("ratios")
    @classmethod
    def _sums_to_one(cls, ratios: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(ratios) - 1.0) > 1e-6:
            raise ValueError(
                f"the shares of train, val and test must sum to 1, not {sum(ratios):g}"
            )
        if ratios[0] <= 0.0:
            raise ValueError("the share of train must be above 0")
        return ratios


_MOST_ENLARGED = 1.5


class Augment(Section):
    """Random changes to training images, each drawn from (seed, epoch, sample) alone."""

    crop: Literal["none", "random", "resized"] = Field(
        default="none",
        description="none: as in evaluation; random: resize to image_size + crop_margin_px, then "
        "cut out at a random place; resized: random area and aspect, resized (Inception crop)",
    )
    crop_margin_px: int = Field(
        default=32, ge=0, le=1024, description="extra pixels for crop: random"
    )
    crop_from: Literal["auto", "whole", "shrunk"] = Field(
        default="auto",
        description="crop: resized cuts from the whole image, or from one shrunk once so that the "
        "average crop has image_size: faster, slightly softer. auto: shrunk, unless the smallest "
        "crop would then be enlarged more than 1.5 times",
    )
    crop_scale: tuple[Share, Share] = Field(
        default=(0.35, 1.0), description="range of the area kept by crop: resized"
    )
    crop_aspect: tuple[float, float] = Field(
        default=(3 / 4, 4 / 3), description="range of width / height for crop: resized"
    )
    horizontal_flip: Share = Field(default=0.0, description="probability of a left-right flip")
    vertical_flip: Share = Field(default=0.0, description="probability of an upside-down flip")
    rotation_degrees: float = Field(
        default=0.0, ge=0.0, le=180.0, description="largest angle either way"
    )
    zoom: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="largest change of height and of width, each on its own",
    )
    color_jitter: tuple[float, float, float, float] = Field(
        default=(0.0, 0.0, 0.0, 0.0),
        description="strength of brightness, contrast, saturation and hue",
    )
    randaugment_ops: int = Field(
        default=0, ge=0, le=8, description="RandAugment: operations per image"
    )
    randaugment_magnitude: int = Field(
        default=9, ge=0, le=30, description="RandAugment: their strength"
    )
    random_erasing: Share = Field(default=0.0, description="probability of erasing a rectangle")

    @property
    def cuts_from(self) -> Literal["whole", "shrunk"]:
        """What crop: resized cuts from, `crop_from: auto` decided."""
        if self.crop_from != "auto":
            return self.crop_from
        low, high = self.crop_scale
        enlarged = ((low + high) / 2 / low) ** 0.5  # of the smallest crop, along its side
        return "shrunk" if enlarged <= _MOST_ENLARGED else "whole"

    @field_validator("crop_scale", "crop_aspect")
    @classmethod
    def _is_a_range(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0.0 < pair[0] <= pair[1]:
            raise ValueError(f"expected two numbers, 0 < low <= high, not {list(pair)}")
        return pair

    @field_validator("color_jitter")
    @classmethod
    def _is_a_jitter(cls, jitter: tuple[float, float, float, float]) -> tuple[float, ...]:
        if min(jitter) < 0.0 or jitter[3] > 0.5:
            raise ValueError("expected four numbers of at least 0, the last (hue) at most 0.5")
        return jitter


class Statistics(Section):
    """Channel means and standard deviations of pixels scaled to 0..1."""

    mean: tuple[float, float, float] = Field(description="per channel, red green blue")
    std: tuple[float, float, float] = Field(description="per channel, all above 0")

    @field_validator("std")
    @classmethod
    def _is_positive(cls, std: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(std) <= 0.0:
            raise ValueError(f"each standard deviation must be above 0, not {list(std)}")
        return std


class Data(Section):
    """Which images, how they are divided, and how they become tensors."""

    source: str | None = Field(default=None, description="DATA as given on the command line")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="table columns by role, e.g. {image: path, label: species}",
    )
    image_root: str | None = Field(
        default=None, description="folder that image paths are relative to"
    )
    allow_outside: bool = Field(
        default=False, description="accept image paths outside the image root"
    )
    conflicts: Literal["drop", "keep"] = Field(
        default="drop", description="pixel-identical images under different labels"
    )
    max_bad: Share = Field(
        default=0.05, description="share of unreadable images at which the run stops"
    )
    min_images: int = Field(
        default=2, ge=1, description="classes with fewer images are dropped and named"
    )
    split: Split = Field(default=Split(), description="how images are divided")
    image_size: int = Field(
        default=224, ge=8, le=4096, description="side of the network's input, px"
    )
    resize: Literal["squash", "shorter", "pad"] = Field(
        default="squash",
        description="squash: both sides to image_size; shorter: the shorter side to "
        "image_size / crop, then the centre; pad: the longer side, filled up with white",
    )
    crop: float = Field(
        default=1.0, gt=0.1, le=1.0, description="share of each side that evaluation keeps (centre)"
    )
    augment: Augment = Field(default=Augment(), description="training images only")
    normalize: Literal["model", "half", "imagenet", "dataset", "none"] | Statistics = Field(
        default="model",
        description="pixel statistics: those the weights were made with, 0.5, ImageNet's, the "
        "training split's own, none, or {mean: [...], std: [...]}",
    )
