"""What each operation of torch does to receptive fields and to where values lie.

A rule takes the operation's arguments and one of its results, and returns the field of that
result. Operations without a rule must be pointwise; if their shapes show that they are not, the
field is "unknown" from there on. Names are those of ATen, without the overload.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from torch import Tensor
from torch.utils._pytree import tree_leaves

from fieldmark.models.summary import axes as ax
from fieldmark.models.summary.axes import Axis, Pixels, Span


@dataclass(frozen=True)
class Reach:
    """`px` that one entry of a tensor sees, and where its entries lie, axis by axis."""

    px: Pixels
    axes: tuple[Axis, ...]


Field = Reach | Literal["all", "unknown"]


class Known(Protocol):
    """What is known of the pass so far."""

    @property
    def image_size(self) -> int:
        """Side of the images, px."""
        ...

    def reach(self, tensor: Tensor) -> Reach:
        """Return the reach of a tensor; a parameter sees nothing and lies nowhere."""
        ...


Rule = Callable[[Known, Sequence[Any], Tensor], Field]


def _convolution(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    images, weight, _, stride, _, dilation, is_transposed, _, groups = arguments[:9]
    reach = known.reach(images)
    if is_transposed:
        return "unknown"
    if groups < images.shape[1] and ax.is_place(reach.axes[1]):
        wider = ax.add(reach.px, ax.extent(reach.axes[1]))
        channels = ax.plain(output.shape[1])
        reach = Reach(wider, (reach.axes[0], channels, *reach.axes[2:]))
    return _slide(reach, weight.shape[2:], stride, dilation, output)


def _pool(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    images, kernel = arguments[:2]
    stride = arguments[2] if len(arguments) > 2 and arguments[2] else kernel
    reach = known.reach(images)
    return _slide(reach, _pair(kernel), _pair(stride), (1, 1, 1), output)


def _adaptive_pool(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    images = arguments[0]
    reach = known.reach(images)
    if output.shape[2:] == (1, 1):
        rest = (*reach.axes[:2], ax.plain(1), ax.plain(1))
        return _mix(known, reach, (2, 3), rest)
    sizes = list(zip(images.shape[2:], output.shape[2:], strict=True))
    strides = [max(1, before // after) for before, after in sizes]
    kernels = [
        before - (after - 1) * stride
        for (before, after), stride in zip(sizes, strides, strict=True)
    ]
    return _slide(reach, kernels, strides, (1, 1), output)


def _slide(
    reach: Reach,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    output: Tensor,
) -> Field:
    """A window over the last axes, as many as the kernel has: (B, C, H, W) for two."""
    first = len(reach.axes) - len(kernel)
    px, axes = reach.px, []
    for index, axis in enumerate(reach.axes[first:]):
        step = ax.step_of(axis)
        if step is None:
            return "unknown"
        wider = (kernel[index] - 1) * dilation[index]
        px = ax.add(px, (wider * step[0], wider * step[1]))
        step = (step[0] * stride[index], step[1] * stride[index])
        axes.append((Span(output.shape[first + index], step),))
    kept = zip(reach.axes[:first], output.shape, strict=False)
    same = (axis if ax.is_place(axis) else ax.plain(size) for axis, size in kept)
    return Reach(px, (*same, *axes))


def _mean(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    reach = known.reach(arguments[0])
    given = next((a for a in arguments[1:] if isinstance(a, int | list | tuple)), None)
    rank = len(reach.axes)
    dims = range(rank) if given is None or given == [] else _list(given)
    mixed = {dim % rank for dim in dims}
    keeps = output.ndim == rank
    rest = tuple(
        ax.plain(1) if dim in mixed else axis
        for dim, axis in enumerate(reach.axes)
        if keeps or dim not in mixed
    )
    return _mix(known, reach, sorted(mixed), rest)


def _norm(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    """`linalg_vector_norm(x, order, dims)`."""
    return _mean(known, [arguments[0], *arguments[2:]], output)


def _product(known: Known, arguments: Sequence[Any], _output: Tensor) -> Field:
    """(..., n, m) @ (..., m, p), where either side may come from the image."""
    left, right = known.reach(arguments[0]), known.reach(arguments[1])
    inner = left.axes[-1] if ax.is_place(left.axes[-1]) else right.axes[-2]
    px = _widest([left, right])
    batch = (
        one if ax.is_place(one) else other
        for one, other in zip(left.axes[:-2], right.axes[:-2], strict=True)
    )
    rest = (*batch, left.axes[-2], right.axes[-1])
    return _mix(known, Reach(px, (inner,)), (0,), rest)


def _added_product(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    return _product(known, arguments[1:3], output)


def _attention(known: Known, arguments: Sequence[Any], _output: Tensor) -> Field:
    """Fused attention of query, key and value (B, heads, N, d)."""
    query, key, value = (known.reach(tensor) for tensor in arguments[:3])
    reach = Reach(_widest([query, key, value]), (key.axes[-2],))
    return _mix(known, reach, (0,), (*query.axes[:-1], value.axes[-1]))


def _view(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    reach = known.reach(arguments[0])
    axes = ax.regroup(reach.axes, output.shape)
    return "unknown" if axes is None else replace(reach, axes=axes)


def _permute(known: Known, arguments: Sequence[Any], _output: Tensor) -> Field:
    reach = known.reach(arguments[0])
    return replace(reach, axes=tuple(reach.axes[dim] for dim in arguments[1]))


def _transpose(known: Known, arguments: Sequence[Any], _output: Tensor) -> Field:
    reach = known.reach(arguments[0])
    order = list(range(len(reach.axes)))
    one, other = arguments[1:3] if len(arguments) > 2 else (0, -1)
    order[one], order[other] = order[other], order[one]
    return replace(reach, axes=tuple(reach.axes[dim] for dim in order))


def _expand(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    reach = known.reach(arguments[0])
    before = arguments[0].shape
    axes = [ax.plain(size) for size in output.shape]
    for place in range(1, len(before) + 1):
        if before[-place] == output.shape[-place]:
            axes[-place] = reach.axes[-place]
    return replace(reach, axes=tuple(axes))


def _select(known: Known, arguments: Sequence[Any], _output: Tensor) -> Field:
    """One entry of an axis; for `unbind` each."""
    reach = known.reach(arguments[0])
    dim = (arguments[1] if len(arguments) > 1 else 0) % len(reach.axes)
    return replace(reach, axes=reach.axes[:dim] + reach.axes[dim + 1 :])


def _slice(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    """Any cut or border: the axes whose size changed."""
    reach = known.reach(arguments[0])
    stride = arguments[4] if len(arguments) > 4 else 1
    axes = tuple(
        axis if before == after else ax.resize(axis, after, stride)
        for axis, before, after in zip(reach.axes, arguments[0].shape, output.shape, strict=True)
    )
    return replace(reach, axes=axes)


def _resized(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    """Pads and splits, whose further arguments say nothing about strides."""
    return _slice(known, arguments[:1], output)


def _concatenate(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    tensors = [tensor for tensor in arguments[0] if tensor.numel()]
    reaches = [known.reach(tensor) for tensor in tensors]
    dim = (arguments[1] if len(arguments) > 1 else 0) % output.ndim
    widest = max(reaches, key=lambda reach: (max(reach.px), any(map(ax.is_place, reach.axes))))
    along = widest.axes[dim]
    joined: Axis = ax.plain(output.shape[dim])
    if ax.is_place(along):
        joined = (Span(output.shape[dim], spread=ax.extent(along)),)
    return Reach(_widest(reaches), (*widest.axes[:dim], joined, *widest.axes[dim + 1 :]))


def _stack(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    reaches = [known.reach(tensor) for tensor in arguments[0]]
    dim = (arguments[1] if len(arguments) > 1 else 0) % output.ndim
    widest = max(reaches, key=lambda reach: max(reach.px))
    new = ax.plain(len(reaches))
    return replace(widest, axes=(*widest.axes[:dim], new, *widest.axes[dim:]))


def _unfold(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    """`x.unfold(dim, size, step)`: windows along an axis become an axis of their own."""
    images, dim, size, stride = arguments
    reach = known.reach(images)
    step = ax.step_of(reach.axes[dim])
    if step is None:
        return "unknown"
    axes = list(reach.axes)
    axes[dim] = (Span(output.shape[dim], (step[0] * stride, step[1] * stride)),)
    return replace(reach, axes=(*axes, (Span(size, step),)))


def pointwise(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    """Value by value, sizes of 1 repeated; any other change of shape is not understood."""
    tensors = [leaf for leaf in tree_leaves(list(arguments)) if isinstance(leaf, Tensor)]
    reaches = [known.reach(tensor) for tensor in tensors]
    axes: list[Axis] = []
    for place in range(output.ndim, 0, -1):
        size = output.shape[-place]
        fitting = [
            reach.axes[-place]
            for tensor, reach in zip(tensors, reaches, strict=True)
            if tensor.ndim >= place and tensor.shape[-place] == size
        ]
        if not fitting or any(tensor.ndim > output.ndim for tensor in tensors):
            return "unknown"
        axes.append(max(fitting, key=ax.is_place))
    return Reach(_widest(reaches), tuple(axes))


def _upsample(known: Known, arguments: Sequence[Any], output: Tensor) -> Field:
    """Nearest or bilinear, from a map (B, C, H, W); the latter also reads the next neighbour."""
    reach = known.reach(arguments[0])
    is_bilinear = len(arguments) > 2 and isinstance(arguments[2], bool)  # align_corners
    px, axes = reach.px, []
    for dim in (2, 3):
        step = ax.step_of(reach.axes[dim])
        if step is None:
            return "unknown"
        px = ax.add(px, step) if is_bilinear else px
        ratio = arguments[0].shape[dim] / output.shape[dim]
        axes.append((Span(output.shape[dim], (step[0] * ratio, step[1] * ratio)),))
    return Reach(px, (*reach.axes[:2], *axes))


def _widest(reaches: Sequence[Reach]) -> Pixels:
    return (max(reach.px[0] for reach in reaches), max(reach.px[1] for reach in reaches))


def _pair(value: Any) -> Sequence[int]:
    values = _list(value)
    return values if len(values) > 1 else (values[0], values[0])


def _list(value: Any) -> Sequence[int]:
    return [value] if isinstance(value, int) else list(value)


def _mix(known: Known, reach: Reach, dims: Sequence[int], rest: tuple[Axis, ...]) -> Field:
    """Mix the entries along `dims`; `rest` are the axes of what comes out."""
    mixed = [reach.axes[dim] for dim in dims]
    if not any(ax.is_place(axis) for axis in mixed):
        return Reach(reach.px, rest)
    px = reach.px
    for axis in mixed:
        px = ax.add(px, ax.extent(axis))
    has_places = any(span.is_place and span.size > 1 for axis in rest for span in axis)
    return Reach(px, rest) if has_places and min(px) < known.image_size else "all"


RULES: dict[str, Rule] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _pool,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "avg_pool3d": _pool,
    "_adaptive_avg_pool2d": _adaptive_pool,
    "adaptive_avg_pool2d": _adaptive_pool,
    "adaptive_max_pool2d": _adaptive_pool,
    "mean": _mean,
    "sum": _mean,
    "amax": _mean,
    "max": _mean,
    "linalg_vector_norm": _norm,
    "mm": _product,
    "bmm": _product,
    "addmm": _added_product,
    "baddbmm": _added_product,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
    "view": _view,
    "_unsafe_view": _view,
    "reshape": _view,
    "_reshape_alias": _view,
    "unsqueeze": _view,
    "squeeze": _view,
    "permute": _permute,
    "transpose": _transpose,
    "t": _transpose,
    "expand": _expand,
    "select": _select,
    "unbind": _select,
    "slice": _slice,
    "split": _resized,
    "split_with_sizes": _resized,
    "constant_pad_nd": _resized,
    "reflection_pad2d": _resized,
    "replication_pad2d": _resized,
    "cat": _concatenate,
    "stack": _stack,
    "unfold": _unfold,
    "upsample_nearest2d": _upsample,
    "upsample_bilinear2d": _upsample,
}
NOT_FOLLOWED = frozenset({"_fft_r2c", "cumsum", "sort", "gather", "index", "grid_sampler_2d"})
"""Operations that keep the shape of their input and are not pointwise."""
