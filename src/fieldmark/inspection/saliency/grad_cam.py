"""Grad-CAM for CNNs and Vision Transformers (Selvaraju et al. 2017, section 3, equations 1, 2).

In a network that classifies its class token, the patches of the last block's output reach nothing:
their gradient is exactly zero. What the class token reads of them is `norm1` of that block, so
there the map is taken. Where a head reads every layer (IFA), evidence enters at every layer, and
the map is the sum over all of them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fieldmark.errors import InspectionError
from fieldmark.inspection.asking import Answer
from fieldmark.inspection.features.flow import find_stages, watch
from fieldmark.inspection.hooks import as_maps, list_layers, record_outputs
from fieldmark.inspection.pictures import Picture
from fieldmark.models.features import Features


def compute_grad_cam(answer: Answer, picture: Picture) -> NDArray[np.float32]:
    """(H, W) evidence for the class, none below 0, stretched from the layers' grid."""
    names, features = find_cam_layers(answer, picture)
    maps, gradients = _differentiate(answer, picture.pixels, names, features)
    height, width = picture.pixels.shape[1:]
    total = torch.zeros(1, 1, height, width)
    for activity, gradient in zip(maps, gradients, strict=True):
        weight = gradient.mean(dim=(1, 2))  # (C,), equation 1
        cam = torch.einsum("c,chw->hw", weight, activity)
        total += functional.interpolate(
            cam[None, None].cpu(), (height, width), mode="bilinear", align_corners=False
        )
    return total[0, 0].relu().numpy()  # equation 2


def find_cam_layers(answer: Answer, picture: Picture) -> tuple[list[str], Features]:
    """Return the names of the layers whose maps count, and the features of that pass.

    The last stage of a CNN. Of a Vision Transformer the last block, or its `norm1` where the
    block's own output of the patches reaches nothing. For a head that reads all layers, all.
    Raises `InspectionError` for a network without maps on the image's plane.
    """
    classifier = answer.classifier
    flow = watch(classifier, picture)
    names = [stage.layer for stage in find_stages(classifier, flow)]
    features = flow.result.features
    if not names:
        raise InspectionError(
            f"saliency: no layer of '{classifier.backbone.name}' returns maps on the image's "
            "plane for Grad-CAM. Choose --methods integrated-gradients or occlusion"
        )
    if names[-1].startswith("blocks."):
        _, (gradient,) = _differentiate(answer, picture.pixels, names[-1:], features)
        if not gradient.any():
            names = _read_by_class_token(names, list_layers(classifier))
    return (names if classifier.head.reads == "layers" else names[-1:]), features


def _read_by_class_token(blocks: list[str], layers: list[str]) -> list[str]:
    """What the attention of each block is given."""
    if f"{blocks[0]}.norm1" in layers:
        return [f"{block}.norm1" for block in blocks]
    return blocks[:-1]  # the input of the block behind, before whatever norm it has


def _differentiate(
    answer: Answer, pixels: Tensor, names: list[str], features: Features
) -> tuple[list[Tensor], list[Tensor]]:
    """Maps (C, h, w) of layers and the gradients of the class's logit on them."""
    classifier = answer.classifier
    plain = sorted({name.partition("#")[0] for name in names})
    with torch.enable_grad(), record_outputs(classifier, plain) as outputs:
        # A frozen backbone has no gradient of its own: the image starts one.
        score = answer(pixels[None].clone().requires_grad_())
        kept = [outputs[name] for name in names]
        gradients = torch.autograd.grad(score.sum(), kept, allow_unused=True)
    found, slopes = [], []
    for output, gradient in zip(kept, gradients, strict=True):
        maps = as_maps(output.detach(), features, classifier)
        slope = as_maps(
            torch.zeros_like(output) if gradient is None else gradient, features, classifier
        )
        assert maps is not None and slope is not None, "stages lie on the image's plane"
        found.append(maps.float())
        slopes.append(slope.float())
    return found, slopes
