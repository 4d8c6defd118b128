"""The methods of saliency, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldmark.errors import InspectionError, hint
from fieldmark.inspection.asking import Answer
from fieldmark.inspection.pictures import Picture
from fieldmark.inspection.saliency.captum_maps import (
    has_captum,
    integrate_gradients,
    occlude,
    require_captum,
    smoothing_px,
    window_px,
)
from fieldmark.inspection.saliency.grad_cam import compute_grad_cam

Compute = Callable[[Answer, Picture, int], NDArray[np.float32]]


@dataclass(frozen=True)
class Method:
    """What makes a map (H, W) of an answer, a picture and a number of steps.

    label: for people. cell_px: about how far its values hang together, of an image of a height
    and a network of a stride; random maps to compare with are as coarse.
    """

    name: str
    label: str
    compute: Compute
    cell_px: Callable[[int, int], float]
    needs_captum: bool = False


METHODS = {
    method.name: method
    for method in (
        Method(
            "grad-cam",
            "Grad-CAM",
            lambda answer, picture, _steps: compute_grad_cam(answer, picture),
            lambda _side, stride: float(stride),
        ),
        Method(
            "integrated-gradients",
            "Integrated gradients",
            integrate_gradients,
            # The distance at which a Gaussian is down to a third, on both sides.
            lambda side, _stride: 3.0 * smoothing_px(side),
            needs_captum=True,
        ),
        Method(
            "occlusion",
            "Occlusion",
            occlude,
            lambda side, _stride: float(window_px(side)),
            needs_captum=True,
        ),
    )
}


def choose_methods(names: Sequence[str], note: Callable[[str], None]) -> list[Method]:
    """Return the methods asked for; none: all that are installed, and a note on the others.

    Raises `InspectionError` for an unknown name, and for one that needs captum without it.
    """
    for name in names:
        if name not in METHODS:
            raise InspectionError(
                f"--methods {name}: there is no such method.{hint(name, METHODS)} Choose among "
                f"{', '.join(METHODS)}"
            )
        if METHODS[name].needs_captum:
            require_captum(name)
    if names:
        return [METHODS[name] for name in names]
    missing = [m.name for m in METHODS.values() if m.needs_captum and not has_captum()]
    if missing:
        note(
            f"saliency: without {' and '.join(missing)}, which need captum: "
            "`pip install 'fieldmark[explain]'`"
        )
    return [method for method in METHODS.values() if method.name not in missing]
