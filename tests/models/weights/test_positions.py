from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom

from fieldmark.models.weights.positions import fit_positions, resample_corners

# Grids of the published fine-tunings: 224/16 and 224/32 to 128 and 64 px, 384/16 to 224/16.
GRIDS = [(14, 8), (14, 4), (7, 4), (7, 2), (24, 14), (2, 5)]
WIDTH = 6


@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_corners_are_what_scipy_zooms(old: int, new: int) -> None:
    patches = torch.randn(1, old * old, WIDTH)
    square = patches.numpy().reshape(old, old, WIDTH)
    expected = zoom(square, (new / old, new / old, 1), order=1)
    found = resample_corners(patches, (new, new)).numpy().reshape(new, new, WIDTH)
    assert np.allclose(found, expected, atol=1e-6)
    assert np.array_equal(found[0, 0], square[0, 0])
    assert np.allclose(found[-1, -1], square[-1, -1])


def test_same_grid_is_left_as_it_is() -> None:
    patches = torch.randn(1, 16, WIDTH)
    assert resample_corners(patches, (4, 4)) is patches


@pytest.mark.parametrize("how", ["timm", "corners"])
def test_class_slot_is_untouched(how: str) -> None:
    state = {"cls_token": torch.zeros(1, 1, WIDTH), "pos_embed": torch.randn(1, 17, WIDTH)}
    found = fit_positions(state, torch.zeros(1, 10, WIDTH), (3, 3), how)
    assert found is not None
    assert torch.equal(found[:, 0], state["pos_embed"][:, 0])
    assert found.shape[1] == (10 if how == "corners" else 17)  # timm resamples itself


def test_slot_that_the_file_lacks_is_the_networks_own() -> None:
    state = {"cls_token": torch.zeros(1, 1, WIDTH), "pos_embed": torch.randn(1, 10, WIDTH)}
    own = torch.randn(1, 11, WIDTH)
    found = fit_positions(state, own, (3, 3), "timm")
    assert found is not None
    assert torch.equal(found[:, 0], state["pos_embed"][:, 0])
    assert torch.equal(found[:, 1], own[:, 1])
    assert torch.equal(found[:, 2:], state["pos_embed"][:, 1:])


def test_slot_that_the_network_lacks_is_dropped() -> None:
    tokens = {name: torch.zeros(1, 1, WIDTH) for name in ("cls_token", "dist_token")}
    state = {**tokens, "pos_embed": torch.randn(1, 11, WIDTH)}
    found = fit_positions(state, torch.randn(1, 10, WIDTH), (3, 3), "timm")
    assert found is not None
    assert torch.equal(found[:, 0], state["pos_embed"][:, 0])
    assert torch.equal(found[:, 1:], state["pos_embed"][:, 2:])


@pytest.mark.parametrize("shape", [(1, 10, WIDTH + 1), (1, 8, WIDTH), (3, 3, WIDTH, 1)])
def test_what_is_no_square_of_this_width_is_left_alone(shape: tuple[int, ...]) -> None:
    assert (
        fit_positions({"pos_embed": torch.zeros(shape)}, torch.zeros(1, 10, WIDTH), (3, 3), "timm")
        is None
    )
