"""Pictures on axes of their own, each in its own proportions within a thin frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldmark.inspection.style import RULE

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


def bare(axes: Axes) -> None:
    """Take away ticks and frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def frame_picture(axes: Axes, pixels: NDArray[np.generic]) -> None:
    """Show (h, w, 3) colours; pale edges of a picture are told from the paper by a thin frame."""
    axes.imshow(pixels, interpolation="lanczos")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(RULE)
        spine.set_linewidth(0.5)
