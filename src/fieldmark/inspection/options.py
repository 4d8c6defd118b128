"""`InspectOptions`: what a person may choose about the figures, whatever their kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[str, int, int], None]
"""Called with what is being computed, steps done and steps in all."""


def ignore_progress(_what: str, _done: int, _total: int) -> None:
    """Show nothing."""


def ignore_note(_note: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class InspectOptions:
    """Choices for all kinds of figures; each kind reads those that concern it.

    num_images: pictures drawn where the user named none, taken from `split` by `seed`.
    tags: of the pictures the user named, for a network that takes tags.
    layers: dotted names of layers as `fieldmark summary` shows them, such as "blocks.11" or
        "conv2"; empty: each kind chooses.
    channels: channels of feature maps, and input channels of deeper filters; empty: chosen.
    heads: attention heads; empty: all.
    methods: of saliency, see `saliency.METHODS`; empty: all that are installed.
    target: class whose evidence saliency shows; None: the class with the highest probability.
    steps: points of the path of integrated gradients, and steps of deletion and insertion.
    other: folder of a second run, for similarity of layers and the line between two weights.
    points: of each side of the landscape, an odd number. distance: how far it reaches, in lengths
        of each filter.
    loss_split, loss_images: whose loss the landscape is; 0 images: the whole split.
    exact: every point of the landscape sees every image, at about five times the cost.
    neighbours: how many are shown. classes: whose field marks are drawn; empty: two that are
        taken for each other.
    seed: of everything that is drawn at random.
    progress, note: told how far the work is, and what is missing from the figures and why.
    """

    num_images: int = 2
    split: str = "test"
    tags: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    target: str | None = None
    steps: int = 20
    other: str | None = None
    points: int = 51
    distance: float = 1.0
    loss_split: str = "val"
    loss_images: int = 256
    exact: bool = False
    neighbours: int = 6
    classes: tuple[str, ...] = ()
    seed: int = 0
    progress: Progress = ignore_progress
    note: Callable[[str], None] = ignore_note
