"""Integrated gradients and occlusion, computed by captum."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from fieldmark.errors import InspectionError
from fieldmark.inspection.asking import Answer
from fieldmark.inspection.pictures import Picture

BATCH_SIZE = 16
NUM_WINDOWS = 7
"""Windows side by side across an image, before they overlap by half."""


def has_captum() -> bool:
    """Whether the extra `explain` is installed."""
    return find_spec("captum") is not None


def require_captum(method: str) -> None:
    """Raise `InspectionError` that names the extra, where captum is not installed."""
    if not has_captum():
        raise InspectionError(
            f"--methods {method}: needs captum, which is not installed. Install it by "
            "`pip install 'fieldmark[explain]'`, or choose --methods grad-cam"
        )


def integrate_gradients(answer: Answer, picture: Picture, steps: int) -> NDArray[np.float32]:
    """(H, W) sizes of the integrated gradients, summed over colours and smoothed.

    Sundararajan, Taly and Yan 2017, section 3, on the straight path from an image of the mean
    colour. Smoothed with a deviation of `smoothing_px`, without which the eye sees single pixels.
    """
    require_captum("integrated-gradients")
    from captum.attr import IntegratedGradients

    images = picture.pixels[None].clone()
    found = IntegratedGradients(answer).attribute(
        images, baselines=torch.zeros_like(images), n_steps=steps, internal_batch_size=BATCH_SIZE
    )
    sizes = found[0].detach().abs().sum(dim=0).float().cpu().numpy()
    smooth: NDArray[np.float32] = gaussian_filter(sizes, smoothing_px(sizes.shape[0]))
    return smooth


def smoothing_px(side: int) -> float:
    """Deviation of the smoothing for images of that height."""
    return side / 56


def occlude(answer: Answer, picture: Picture, _steps: int) -> NDArray[np.float32]:
    """(H, W) loss of the class's logit where a square of the mean colour covers the image.

    Zeiler and Fergus 2014, section 4.2. Squares are a seventh of the image wide and overlap by
    half; a pixel has the mean of those that cover it. Where covering helps the class it is 0.
    """
    require_captum("occlusion")
    from captum.attr import Occlusion

    images = picture.pixels[None]
    window = window_px(images.shape[-1])
    step = max(1, window // 2)
    with torch.no_grad():
        found = Occlusion(answer).attribute(
            images,
            sliding_window_shapes=(3, window, window),
            strides=(3, step, step),
            baselines=0.0,
            perturbations_per_eval=BATCH_SIZE,
        )
    loss: NDArray[np.float32] = found[0].mean(dim=0).clamp_min(0.0).float().cpu().numpy()
    return loss


def window_px(side: int) -> int:
    """Side of the covering square."""
    return max(2, side // NUM_WINDOWS)
