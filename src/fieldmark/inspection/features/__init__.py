"""Feature maps: what one image becomes on its way through the network."""

from fieldmark.inspection.features.drawing import draw_features
from fieldmark.inspection.features.flow import Flow, Stage, find_stages, watch
from fieldmark.inspection.features.numbers import (
    colour_tokens,
    scale_channel,
    strongest_channels,
    token_norms,
)

__all__ = [
    "Flow",
    "Stage",
    "colour_tokens",
    "draw_features",
    "find_stages",
    "scale_channel",
    "strongest_channels",
    "token_norms",
    "watch",
]
