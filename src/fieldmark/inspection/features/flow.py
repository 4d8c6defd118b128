"""One image watched on its way through a network: the output of each layer, laid on its plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fieldmark.errors import InspectionError
from fieldmark.inspection.asking import repeat_tags
from fieldmark.inspection.hooks import as_maps, record_outputs, short_name
from fieldmark.inspection.pictures import Picture
from fieldmark.models.classifier import Classifier, Outputs


@dataclass(frozen=True)
class Stage:
    """A layer and what it returned: maps (C, h, w), of tokens as of channels."""

    layer: str
    maps: Tensor

    @property
    def size(self) -> str:
        """Channels and plane: "64 x 25 x 25"."""
        return " x ".join(map(str, self.maps.shape))


@dataclass(frozen=True)
class Flow:
    """One pass of one image. outputs: what layers returned, by name, in the order of the calls."""

    outputs: Mapping[str, Tensor]
    result: Outputs

    def stage(self, name: str, classifier: Classifier) -> Stage:
        """Return a layer's output on its plane.

        Raises `InspectionError` for a layer that did not run, or whose output has no plane.
        """
        layer = short_name(name)
        output = self.outputs.get(layer)
        if output is None:
            raise InspectionError(
                f"--layers {name}: this layer did not run on its own, or returned no tensor. Name "
                f"the one around it: {layer.rpartition('.')[0] or 'another'}"
            )
        maps = as_maps(output, self.result.features, classifier)
        if maps is None:
            raise InspectionError(
                f"--layers {name}: its output of shape {tuple(output.shape[1:])} does not lie on "
                "the image's plane, so it has no feature maps. Name an earlier layer"
            )
        return Stage(layer, maps)


@torch.no_grad()
def watch(classifier: Classifier, picture: Picture, names: Sequence[str] | None = None) -> Flow:
    """Run one picture, as evaluation does, and keep what the layers returned; None: all layers."""
    tags = repeat_tags(picture.tag_ids, 1)
    with record_outputs(classifier, names) as outputs:
        result = classifier(picture.pixels[None], tags, full=True)
    return Flow(outputs, result)


def find_stages(classifier: Classifier, flow: Flow) -> list[Stage]:
    """Return the steps of a network: blocks of a Vision Transformer, or stages of a CNN.

    A stage of a CNN ends with the last layer that returns maps of its size, larger than one
    pixel; stages follow each other from large to small. `flow` holds all layers.
    """
    blocks = [name for name in flow.outputs if _is_block(name)]
    if blocks and as_maps(flow.outputs[blocks[0]], flow.result.features, classifier) is not None:
        return [flow.stage(name, classifier) for name in blocks]
    last: dict[tuple[int, ...], Stage] = {}
    for name, output in flow.outputs.items():
        maps = as_maps(output, flow.result.features, classifier) if output.ndim == 4 else None
        if maps is not None and min(maps.shape[1:]) > 1:
            last[tuple(maps.shape[1:])] = Stage(name, maps)
    return sorted(last.values(), key=lambda stage: -stage.maps.shape[1] * stage.maps.shape[2])


def _is_block(name: str) -> bool:
    first, _, index = name.partition(".")
    return first == "blocks" and index.isdecimal()
