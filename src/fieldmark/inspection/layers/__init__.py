"""What each layer contributes, knows, and has in common with others."""

from fieldmark.inspection.layers.figures import draw_layers

__all__ = ["draw_layers"]
