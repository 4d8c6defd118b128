"""What a resize and a crop take from each picture, and which of the three ways takes least.

Three shares tell what becomes of a picture of W x H px, s the shorter side and l the longer:
`shorter` keeps the centre square and discards 1 - crop^2 s / l of the area; `squash` stretches
one side by l / s - 1; `pad` gives 1 - s / l of the network's input to white.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fieldmark.data.scan import GREY_SIDE, ImageFacts

Advice = Literal["crop", "squash", "pad"]
Resize = Literal["squash", "shorter", "pad"]
NUM_WORST = 24
USUAL_CROP = 0.875

# What the rule of `recommend` calls little: of the picture's detail, and of stretching.
LITTLE_DETAIL = 0.05
LITTLE_STRETCH = 0.15
EQUAL_STRETCH = 1.25

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """How a picture is cut: as the recipe section `data` has it."""

    image_size: int = 224
    resize: Resize = "squash"
    crop: float = 1.0


@dataclass(frozen=True)
class CropLoss:
    """What becomes of one picture.

    discarded: share of its area that a centre crop of the shorter side leaves out, and
    lost_detail: share of its edges that are there. stretch: 0.5 if squashing makes it half as long
    again in one direction. padding: share of a padded square that is white. enlargement: how
    many times larger than it is the network sees it. keeps: share of each side (x, y) inside the
    crop.
    """

    image: str
    width: int
    height: int
    discarded: float
    lost_detail: float
    stretch: float
    padding: float
    enlargement: float
    keeps: tuple[float, float]


@dataclass(frozen=True)
class Spread:
    """Median, 95th percentile and largest of a share over all pictures."""

    median: float
    high: float
    largest: float


@dataclass(frozen=True)
class CropReport:
    """The geometry of a set.

    discarded and lost_detail are of a crop with `crop` of each side (the recipe's, or 0.875,
    which most published weights were tested with, where the recipe does not crop). worst: pictures
    from which that crop takes most detail. num_enlarged: smaller than the network's input.
    """

    geometry: Geometry
    crop: float
    num_shapes: int
    discarded: Spread
    lost_detail: Spread
    stretch: Spread
    padding: Spread
    num_enlarged: int
    advice: Advice
    reason: str
    worst: tuple[CropLoss, ...]


def measure_crops(facts: Mapping[str, ImageFacts], geometry: Geometry) -> CropReport | None:
    """Measure every picture; None where there is none."""
    if not facts:
        return None
    crop = geometry.crop if geometry.crop < 1 else USUAL_CROP
    losses = [_measure(one, geometry, crop) for one in facts.values()]
    advice, reason = recommend(losses)
    by_loss = sorted(losses, key=lambda loss: (-loss.lost_detail, -loss.discarded, loss.image))
    return CropReport(
        geometry=geometry,
        crop=crop,
        num_shapes=len({(loss.width, loss.height) for loss in losses}),
        discarded=_spread([loss.discarded for loss in losses]),
        lost_detail=_spread([loss.lost_detail for loss in losses]),
        stretch=_spread([loss.stretch for loss in losses]),
        padding=_spread([loss.padding for loss in losses]),
        num_enlarged=sum(loss.enlargement > 1 for loss in losses),
        advice=advice,
        reason=reason,
        worst=tuple(loss for loss in by_loss[:NUM_WORST] if loss.lost_detail > 0),
    )


def recommend(losses: list[CropLoss]) -> tuple[Advice, str]:
    """Choose crop, squash or pad for 95% of the pictures, and say why.

    Crop, where a crop takes at most 5% of the detail. Else squash, where it stretches by at most
    15%, or all by about as much (within a factor of 1.25): then every picture is stretched alike.
    Else pad.
    """
    detail = float(np.quantile([loss.lost_detail for loss in losses], 0.95))
    stretch = float(np.quantile([loss.stretch for loss in losses], 0.95))
    aspects = np.array([loss.width / loss.height for loss in losses])
    low, high = np.quantile(aspects, [0.025, 0.975])
    if detail <= LITTLE_DETAIL:
        return "crop", f"a centre crop takes at most {detail:.0%} of the detail of 95% of them"
    if stretch <= LITTLE_STRETCH:
        told = (
            "they are square" if stretch < 0.005 else f"it stretches 95% by at most {stretch:.0%}"
        )
        return "squash", f"a crop takes up to {detail:.0%} of the detail, and {told}"
    if high / low <= EQUAL_STRETCH:
        return "squash", (
            f"they have about the same shape ({np.median(aspects):.2f} : 1), so all are stretched "
            f"alike, and a crop takes up to {detail:.0%} of the detail"
        )
    return "pad", (
        f"a crop takes up to {detail:.0%} of the detail, and squashing stretches pictures of "
        f"different shapes by different amounts, up to {stretch:.0%}"
    )


def _measure(facts: ImageFacts, geometry: Geometry, crop: float) -> CropLoss:
    short, long = sorted((facts.width, facts.height))
    keeps = crop * short / facts.width, crop * short / facts.height
    reference = long if geometry.resize == "pad" else short
    return CropLoss(
        image=facts.image,
        width=facts.width,
        height=facts.height,
        discarded=1 - keeps[0] * keeps[1],
        lost_detail=_lost_detail(facts, keeps),
        stretch=long / short - 1,
        padding=1 - short / long,
        enlargement=geometry.image_size / geometry.crop / reference,
        keeps=keeps,
    )


def _lost_detail(facts: ImageFacts, keeps: tuple[float, float]) -> float:
    """Share of the edges of the 32 x 32 thumbnail outside of the central box `keeps` (x, y)."""
    values = np.frombuffer(facts.fingerprint, dtype=np.uint8, count=GREY_SIDE**2)
    grey = values.reshape(GREY_SIDE, GREY_SIDE).astype(np.float64)
    rows, columns = np.gradient(grey)
    edges = np.hypot(rows, columns)
    total = edges.sum()
    if total == 0:
        return 0.0
    across, down = (_inside(share) for share in keeps)
    return float(max(0.0, 1 - (edges * np.outer(down, across)).sum() / total))


def _inside(share: float) -> Floats:
    """How much of each of the 32 cells lies in the middle `share` of a side."""
    low, high = GREY_SIDE * (1 - share) / 2, GREY_SIDE * (1 + share) / 2
    start = np.arange(GREY_SIDE)
    covered: Floats = np.clip(np.minimum(start + 1, high) - np.maximum(start, low), 0.0, 1.0)
    return covered


def _spread(values: list[float]) -> Spread:
    median, high, largest = np.quantile(values, [0.5, 0.95, 1.0])
    return Spread(float(median), float(high), float(largest))
