"""Filters: what the first layers look for, and what a Vision Transformer knows of places."""

from fieldmark.inspection.filters.drawing import draw_filters
from fieldmark.inspection.filters.numbers import (
    Components,
    find_components,
    position_similarity,
    to_colours,
)

__all__ = [
    "Components",
    "draw_filters",
    "find_components",
    "position_similarity",
    "to_colours",
]
