from __future__ import annotations

import pytest
import torch

from fieldmark.models.vit.patches import count_views, render_views, token_reach_px
from fieldmark.models.vit.patches.views import flatten_patches, stack_views
from fieldmark.recipes.schema import Patches

ORDER = [
    "original",
    "left-up",
    "left-down",
    "right-up",
    "right-down",
    "anticlockwise",
    "clockwise",
]


def test_there_are_seven_views_in_the_published_order() -> None:
    image = torch.randn(3, 24, 24)
    views = render_views(image, Patches(kind="rotated"), patch_size=6)
    assert list(views) == ORDER
    assert torch.equal(views["original"], image)
    assert all(view.shape == image.shape for view in views.values())
    assert list(render_views(image, Patches(kind="shifted"), patch_size=6)) == ORDER[:5]
    assert list(render_views(image, Patches(kind="plain"), patch_size=6)) == ORDER[:1]
    assert [count_views(kind) for kind in ("plain", "shifted", "rotated")] == [1, 5, 7]


@pytest.mark.parametrize(
    "name,row,column",
    [("left-up", 7, 7), ("left-down", 13, 7), ("right-up", 7, 13), ("right-down", 13, 13)],
)
def test_a_lit_pixel_moves_by_half_a_patch(name: str, row: int, column: int) -> None:
    image = torch.zeros(1, 24, 24)
    image[0, 10, 10] = 1.0
    view = render_views(image, Patches(kind="shifted"), patch_size=6)[name]
    assert view.nonzero().tolist() == [[0, row, column]]


def test_shifts_leave_zeros_behind() -> None:
    views = render_views(torch.ones(1, 12, 12), Patches(kind="shifted"), patch_size=6)
    kept = torch.ones(9, 9)
    expected = {
        "left-up": (0, 3, 0, 3),
        "left-down": (0, 3, 3, 0),
        "right-up": (3, 0, 0, 3),
        "right-down": (3, 0, 3, 0),
    }
    for name, pad in expected.items():
        assert torch.equal(views[name][0], torch.nn.functional.pad(kept, pad))


def test_odd_patches_shift_by_the_half_rounded_down() -> None:
    image = torch.zeros(1, 14, 14)
    image[0, 7, 7] = 1.0
    view = render_views(image, Patches(kind="shifted"), patch_size=7)["right-down"]
    assert view.nonzero().tolist() == [[0, 10, 10]]


def test_stack_puts_the_views_of_render_side_by_side() -> None:
    image = torch.randn(3, 12, 12)
    patches = Patches(kind="shifted")
    stacked = stack_views(image[None], None, patch_size=6)
    assert stacked.shape == (1, 15, 12, 12)
    assert torch.equal(stacked[0], torch.cat(list(render_views(image, patches, 6).values())))


def test_values_of_a_patch_go_row_column_view_channel() -> None:
    views = torch.arange(2 * 3 * 8 * 12.0).view(1, 6, 8, 12)  # two views of three channels
    tokens = flatten_patches(views, patch_size=4)
    assert tokens.shape == (1, 6, 96)
    row, column, view, channel = 2, 3, 1, 2
    value = tokens[0, 4, ((row * 4 + column) * 2 + view) * 3 + channel]
    assert value == views[0, view * 3 + channel, 4 + row, 4 + column]  # token 4: row 1, column 1


def test_reach_of_a_token() -> None:
    assert token_reach_px(Patches(kind="plain"), 6, 72) == 6
    assert token_reach_px(Patches(kind="shifted"), 6, 72) == 12
    assert token_reach_px(Patches(kind="rotated"), 6, 72) == pytest.approx(12 + 11.40, abs=0.01)
