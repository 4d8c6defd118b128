"""The receptive field of every layer: how many pixels of the image one value of it can see.

A convolution or pool of kernel k and dilation d on a map whose values lie j pixels apart widens
the field by (k - 1) d j pixels, where j is the product of the strides before it:

    r_l = r_(l-1) + (k_l - 1) * prod_(i<l) s_i        (Araujo, Norris, Sim, Distill 2019)

Where paths meet the widest counts. A matrix product over positions (attention, a linear layer on
a flattened map, a patch embedding) and a mean over them widen the field by the pixels between
those positions. Norms are taken as pointwise, and gates (squeeze and excitation) weigh channels
without widening anything, as in the published tables. So a token of a Vision Transformer sees its
patch (S2 eq. 3 with r_trans = 1), and everything behind the first global attention sees all.

`ReceptiveFields` follows the operations of one forward pass, so a network needs no description.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, Literal

from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from fieldmark.models.summary.axes import Span, plain
from fieldmark.models.summary.reach_rules import NOT_FOLLOWED, RULES, Field, Reach, pointwise

_SEVERAL_RESULTS = {"unbind", "split", "split_with_sizes"}


class ReceptiveFields:
    """The fields of the tensors of one forward pass on square images of `image_size` px."""

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size
        self._fields = WeakTensorKeyDictionary()

    def start(self, images: Tensor) -> None:
        """Begin at images (B, C, H, W): each value sees its own pixel."""
        num_images, channels, height, width = images.shape
        down, right = (Span(height, (1.0, 0.0)),), (Span(width, (0.0, 1.0)),)
        axes = (plain(num_images), plain(channels), down, right)
        self._fields[images] = Reach((1.0, 1.0), axes)

    def follow(self, operation: Any, arguments: Sequence[Any], result: Any) -> None:
        """Give the results of an operation of torch (an ATen overload) their fields."""
        name = operation.overloadpacket.__name__
        name = name if name in RULES else name.removesuffix("_")
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if name not in _SEVERAL_RESULTS:
            outputs = outputs[:1]  # the others are statistics and indices
        for output in outputs:
            field = self._find(name, arguments, output)
            if field is not None:
                self._fields[output] = field

    def read(self, tensor: Tensor) -> int | Literal["all"] | None:
        """Return pixels, "all" for the whole image, or None where it is not known."""
        field = self._fields.get(tensor)  # type: ignore[no-untyped-call]
        if isinstance(field, Reach):
            return ceil(max(field.px))
        return "all" if field == "all" else None

    def set_tokens(self, tokens: Tensor, *, px: int, patch_px: int) -> None:
        """Say that tokens (B, N, D) of a patch embedding see `px`, `patch_px` from each other."""
        side = self.image_size // patch_px
        if tokens.ndim != 3 or tokens.shape[1] != side * side:
            self._fields[tokens] = "unknown"
            return
        places = (Span(side, (patch_px, 0.0)), Span(side, (0.0, patch_px)))
        self._fields[tokens] = Reach(
            (px, px), (plain(tokens.shape[0]), places, plain(tokens.shape[2]))
        )

    def reach(self, tensor: Tensor) -> Reach:
        """Return the reach of a tensor; a parameter sees nothing and lies nowhere."""
        field = self._fields.get(tensor)  # type: ignore[no-untyped-call]
        if isinstance(field, Reach):
            return field
        return Reach((0.0, 0.0), tuple(plain(size) for size in tensor.shape))

    def _find(self, name: str, arguments: Sequence[Any], output: Tensor) -> Field | None:
        inputs = [leaf for leaf in tree_leaves(list(arguments)) if isinstance(leaf, Tensor)]
        known = [(tensor, self._fields[tensor]) for tensor in inputs if tensor in self._fields]
        if name == "mul":
            known = _without_gates(known, output)
        fields = [field for _, field in known]
        if not fields:
            return None
        if "all" in fields:
            return "all"
        if "unknown" in fields or name in NOT_FOLLOWED:
            return "unknown"
        found = RULES.get(name, pointwise)(self, arguments, output)
        if isinstance(found, Reach) and len(found.axes) != output.ndim:
            return "unknown"
        return found


def _without_gates(known: list[tuple[Tensor, Field]], output: Tensor) -> list[tuple[Tensor, Field]]:
    """Leave out factors that weigh whole channels by what the whole image shows."""
    maps = [(t, f) for t, f in known if f != "all" or t.shape == output.shape]
    return maps or known
