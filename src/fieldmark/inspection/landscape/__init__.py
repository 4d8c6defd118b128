"""The loss around the weights of a network: lines, planes and sharpness."""

from fieldmark.inspection.landscape.figures import draw_landscape

__all__ = ["draw_landscape"]
