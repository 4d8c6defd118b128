"""Saliency: which pixels speak for a class, and whether the map deserves belief."""

from fieldmark.inspection.saliency.captum_maps import integrate_gradients, occlude
from fieldmark.inspection.saliency.drawing import draw_saliency
from fieldmark.inspection.saliency.grad_cam import compute_grad_cam, find_cam_layers
from fieldmark.inspection.saliency.methods import METHODS, Method, choose_methods
from fieldmark.inspection.saliency.trust import (
    Curves,
    Faithfulness,
    draw_random_map,
    measure_curves,
    measure_faithfulness,
    rank_correlation,
    shuffle_weights,
)

__all__ = [
    "METHODS",
    "Curves",
    "Faithfulness",
    "Method",
    "choose_methods",
    "compute_grad_cam",
    "draw_random_map",
    "draw_saliency",
    "find_cam_layers",
    "integrate_gradients",
    "measure_curves",
    "measure_faithfulness",
    "occlude",
    "rank_correlation",
    "shuffle_weights",
]
