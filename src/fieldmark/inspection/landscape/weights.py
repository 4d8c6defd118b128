"""The weights that are moved, as one vector, and the copy of the network they are put into.

The network itself is never written to: its copy takes the moved weights, so whatever happens,
the original keeps every bit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from fieldmark.errors import ModelError


def is_moved(name: str, parameter: Tensor) -> bool:
    """Whether a direction moves this parameter: the weights of linear layers and convolutions.

    Biases, the scale and shift of norms, class tokens and embedded positions stay where they are:
    they have no filters whose size a step could be measured by (Li et al. 2018, section 4, leave
    out biases and norms).
    """
    return parameter.ndim > 1 and name.rpartition(".")[2] == "weight"


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """(P,) float32 of all values, one tensor's behind the other's."""
    return torch.cat([tensor.detach().float().reshape(-1) for tensor in tensors])


class MovedCopy:
    """A copy of a network whose chosen parameters can be put anywhere.

    dtype: float32 or bfloat16, in which the copy computes. Weights are moved in float32 and
    rounded once.
    """

    def __init__(
        self, network: nn.Module, names: Iterable[str], dtype: torch.dtype = torch.float32
    ) -> None:
        """Take the parameters (and buffers) of these names."""
        own = {**dict(network.named_buffers()), **dict(network.named_parameters())}
        self.names = tuple(names)
        self.centre = flatten(own[name] for name in self.names)
        self.network = copy.deepcopy(network).eval().requires_grad_(False).to(dtype)
        copied = {**dict(self.network.named_buffers()), **dict(self.network.named_parameters())}
        self._places = [copied[name] for name in self.names]
        self._sizes = [place.numel() for place in self._places]

    @torch.no_grad()
    def put(self, values: Tensor) -> nn.Module:
        """The copy with `values` (P,) in the place of the chosen parameters."""
        for place, part in zip(self._places, torch.split(values, self._sizes), strict=True):
            place.copy_(part.view_as(place))
        return self.network


def expect_same_network(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], names: tuple[str, str]
) -> None:
    """Refuse two sets of weights that are not of one network; `names` are for the error."""
    faults = [
        f"{key} is {_shape(first.get(key))} in {names[0]} and {_shape(second.get(key))} in "
        f"{names[1]}"
        for key in dict.fromkeys((*first, *second))
        if _shape(first.get(key)) != _shape(second.get(key))
    ]
    if faults:
        raise ModelError(
            f"There is no line between {names[0]} and {names[1]}: they are different networks "
            f"({len(faults)} parameters differ in shape, first: {faults[0]}). Choose two runs of "
            "one recipe"
        )


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(tuple(tensor.shape))
