"""Views: the few fixed ways in which an image is shown where its features are stored.

A view is a function of the image alone. So stored features serve every seed, split and order.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch
from torch import Tensor

from fieldmark.recipes.schema import Augment
from fieldmark.seeds import derive_seed
from fieldmark.transforms.geometry import Picture
from fieldmark.transforms.pipelines import EvalTransform, TrainTransform
from fieldmark.transforms.record import TransformRecord


@dataclass(frozen=True)
class View:
    """One way to show an image: as in evaluation, turned over, or changed at random.

    number: which draw of the training transform it is, from 1; 0 where nothing is drawn.
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    number: int = 0

    @property
    def name(self) -> str:
        """For people, and part of what stored features are found by."""
        if self.number:
            return f"drawn {self.number}"
        flips = {"left-right": self.horizontal_flip, "upside-down": self.vertical_flip}
        turned = " and ".join(name for name, is_on in flips.items() if is_on)
        return f"flipped {turned}" if turned else "plain"

    def describe(self, record: TransformRecord) -> str:
        """The name, with everything besides the evaluation transform that decides its pixels."""
        if not self.number:
            return self.name
        return f"{self.name} {json.dumps(record.to_json()['augment'], sort_keys=True)}"


PLAIN = View()


def choose_views(augment: Augment, count: int) -> tuple[View, ...]:
    """At most `count` views: plain, the flips that `augment` has, then draws of all its changes.

    Fewer where there are no more that differ: one without random changes, and with flips alone
    these.
    """
    sideways = [False, True] if augment.horizontal_flip else [False]
    upright = [False, True] if augment.vertical_flip else [False]
    views = [View(horizontal, vertical) for vertical in upright for horizontal in sideways]
    if is_random(augment.model_copy(update={"horizontal_flip": 0.0, "vertical_flip": 0.0})):
        views += [View(number=number) for number in range(1, count - len(views) + 1)]
    return tuple(views[:count])


def is_random(augment: Augment) -> bool:
    """Whether any of the random changes to training images is on."""
    chances = (
        augment.horizontal_flip,
        augment.vertical_flip,
        augment.rotation_degrees,
        augment.zoom,
        *augment.color_jitter,
        augment.randaugment_ops,
        augment.random_erasing,
    )
    return augment.crop != "none" or any(chances)


class ViewTransform:
    """RGB image -> (V, 3, image_size, image_size) float32, normalised: each of V views."""

    def __init__(self, record: TransformRecord, views: tuple[View, ...]) -> None:
        self._views = views
        self._plain = EvalTransform(record)
        self._train = TrainTransform(record)

    def __call__(self, image: Picture) -> Tensor:
        """Transform one image; what is drawn, is drawn from its pixels."""
        plain = self._plain(image)  # (3, H, W)
        digest = ""
        if any(view.number for view in self._views):
            digest = hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
        return torch.stack([self._show(image, plain, digest, view) for view in self._views])

    def _show(self, image: Picture, plain: Tensor, digest: str, view: View) -> Tensor:
        if view.number:
            return self._train(image, derive_seed("view", view.number, digest))
        flips = {1: view.vertical_flip, 2: view.horizontal_flip}
        return plain.flip([axis for axis, is_on in flips.items() if is_on])
