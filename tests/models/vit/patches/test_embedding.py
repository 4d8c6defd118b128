from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fieldmark.errors import ImageSizeError, ModelError
from fieldmark.models.vit.patches import ViewPatchEmbed, build_patch_embedding, folded, render_views
from fieldmark.models.vit.patches.tokens import is_folding_quicker
from fieldmark.recipes.schema import Patches


def build(
    kind: str, image_size: int, patch_size: int, width: int = 32, **options: str
) -> nn.Module:
    patches = Patches.model_validate({"kind": kind, "form": "published"} | options)
    torch.manual_seed(0)
    embedding = build_patch_embedding(
        patches, image_size=image_size, patch_size=patch_size, width=width
    ).eval()
    if isinstance(embedding, ViewPatchEmbed):  # nothing at a start that hides a fault
        nn.init.normal_(embedding.views.norm.weight, 1.0, 0.3)
        nn.init.normal_(embedding.views.norm.bias, 0.0, 0.3)
        nn.init.normal_(embedding.views.proj.bias)
    return embedding


def run(embedding: nn.Module, images: torch.Tensor, formulation: str) -> torch.Tensor:
    views = embedding.views
    views.formulation = formulation  # type: ignore[union-attr, assignment]
    tokens: torch.Tensor = embedding(images)
    return tokens


def error(embedding: nn.Module, images: torch.Tensor, formulation: str) -> float:
    """Largest difference of float32 to the definition in float64."""
    exact = run(copy.deepcopy(embedding).double(), images.double(), "stacked")
    return float((run(embedding, images, formulation).double() - exact).detach().abs().max())


@pytest.mark.parametrize(
    "kind,patch_size,num_values",
    [("shifted", 6, 540), ("rotated", 6, 756), ("shifted", 16, 3840), ("rotated", 16, 5376)],
)
def test_layer_norm_is_over_all_views_of_a_patch(
    kind: str, patch_size: int, num_values: int
) -> None:
    embedding = build(kind, patch_size * 2, patch_size)
    assert embedding.views.norm.normalized_shape == (num_values,)
    assert embedding.views.norm.eps == 1e-6
    assert embedding.views.proj.in_features == num_values
    assert embedding(torch.randn(2, 3, patch_size * 2, patch_size * 2)).shape == (2, 4, 32)


def test_parameter_counts_are_the_published_ones() -> None:
    def count(kind: str, image_size: int, patch_size: int) -> int:
        embedding = build(kind, image_size, patch_size, width=64)
        return sum(parameter.numel() for parameter in embedding.parameters())

    assert count("rotated", 72, 6) == 1512 + 756 * 64 + 64
    assert count("shifted", 72, 6) - count("plain", 72, 6) == 710_656 - 681_920 - 8  # tau of LSA
    assert count("rotated", 72, 6) - count("plain", 72, 6) == 724_904 - 681_920
    assert count("rotated", 224, 16) - count("plain", 224, 16) == 28_828_613 - 28_522_949


def test_plain_embedding_is_one_linear_layer_without_norm() -> None:
    embedding = build("plain", 12, 6)
    assert {name: tuple(p.shape) for name, p in embedding.named_parameters()} == {
        "proj.weight": (32, 3, 6, 6),
        "proj.bias": (32,),
    }
    image = torch.zeros(1, 3, 12, 12)
    image[0, 1, 8, 3] = 1.0  # second row of patches, first column
    lit = (embedding(image) - embedding(torch.zeros_like(image)))[0]
    torch.testing.assert_close(lit[2], embedding.proj.weight[:, 1, 2, 3])
    assert not lit[[0, 1, 3]].any()


def test_published_embedding_is_norm_then_projection_of_the_flat_views() -> None:
    embedding = build("rotated", 12, 6).double()
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    flat = []
    views = embedding.views
    for image in images:
        parts = render_views(image, Patches(kind="rotated"), 6)
        for row in (0, 6):
            for column in (0, 6):
                flat.append(
                    torch.stack([v[:, row : row + 6, column : column + 6] for v in parts.values()])
                )
    values = torch.stack(flat).permute(0, 3, 4, 1, 2).flatten(1)  # row, column, view, channel
    values = (values - values.mean(1, keepdim=True)) / (
        values.var(1, correction=0, keepdim=True) + 1e-6
    ).sqrt()
    values = values * views.norm.weight + views.norm.bias
    expected = values @ views.proj.weight.T + views.proj.bias
    for formulation in ("stacked", "folded"):
        torch.testing.assert_close(run(embedding, images, formulation).flatten(0, 1), expected)


@pytest.mark.parametrize("kind", ["shifted", "rotated"])
@pytest.mark.parametrize("image_size,patch_size", [(72, 6), (64, 8), (32, 4), (24, 12), (8, 2)])
@pytest.mark.parametrize(
    "options", [{}, {"interpolation": "bilinear", "fill": "reflect"}, {"fill": "edge"}]
)
def test_folded_equals_the_definition(
    kind: str, image_size: int, patch_size: int, options: dict[str, str]
) -> None:
    embedding = build(kind, image_size, patch_size, **options).double()
    images = torch.randn(2, 3, image_size, image_size, dtype=torch.float64)
    torch.testing.assert_close(
        run(embedding, images, "folded"), run(embedding, images, "stacked"), atol=1e-11, rtol=0
    )


@pytest.mark.parametrize("angles", ["per_image", "per_batch", "fixed", "as_published"])
def test_folded_equals_the_definition_in_training(angles: str) -> None:
    embedding = build("rotated", 24, 6, angles=angles).double().train()
    images = torch.randn(3, 3, 24, 24, dtype=torch.float64, requires_grad=True)
    results = []
    for formulation in ("folded", "stacked"):
        torch.manual_seed(3)
        tokens = run(embedding, images, formulation)
        names, parameters = zip(*embedding.named_parameters(), strict=True)
        gradients = torch.autograd.grad(tokens.square().sum(), [images, *parameters])
        assert all(gradient.abs().sum() > 0 for gradient in gradients), names
        results.append((tokens, *gradients))
    for quick, stacked in zip(*results, strict=True):
        torch.testing.assert_close(quick, stacked, atol=1e-9, rtol=1e-9)


def flat_images(size: int) -> torch.Tensor:
    """Black, white, half each, and one grey level with the slightest noise."""
    images = torch.full((4, 3, size, size), 2.4)
    images[0] = 0.0
    images[2, :, :, size // 3 :] = -1.8
    images[3] += 1e-6 * torch.randn(3, size, size)
    return images


@pytest.mark.parametrize("image_size,patch_size,most", [(224, 16, 1.7e-4), (64, 8, 1.4e-5)])
@pytest.mark.parametrize("kind", ["shifted", "rotated"])
def test_folded_is_exact_on_noise_and_flat_patches(
    kind: str, image_size: int, patch_size: int, most: float
) -> None:
    embedding = build(kind, image_size, patch_size)
    noise = torch.randn(2, 3, image_size, image_size)
    assert error(embedding, noise, "folded") < most
    assert error(embedding, flat_images(image_size), "folded") < most


@pytest.mark.parametrize("image_size,patch_size,most", [(224, 16, 1.7e-4), (64, 8, 1.4e-5)])
@pytest.mark.parametrize("kind", ["shifted", "rotated"])
def test_folded_is_exact_on_photographs(
    shared: Path, kind: str, image_size: int, patch_size: int, most: float
) -> None:
    paths = sorted((shared / "data" / "leaves" / "images").glob("*.jpg"))[:4]
    pixels = [Image.open(path).convert("RGB").resize((image_size, image_size)) for path in paths]
    images = torch.stack([torch.from_numpy(np.array(image)) for image in pixels])
    images = (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    assert error(build(kind, image_size, patch_size), images, "folded") < most


@pytest.mark.parametrize("kind", ["shifted", "rotated"])
def test_bfloat16_autocast_is_as_exact_folded_as_by_definition(kind: str) -> None:
    embedding = build(kind, 64, 8)
    images = torch.cat([flat_images(64), torch.randn(4, 3, 64, 64)])
    with torch.autocast("cpu", torch.bfloat16):
        errors = [error(embedding, images, formulation) for formulation in ("folded", "stacked")]
    assert errors[0] < 2 * errors[1]


@pytest.mark.parametrize("is_training", [True, False])
def test_a_few_images_at_a_time_are_as_exact_as_all(
    is_training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = build("rotated", 24, 6).double().train(is_training)
    images = torch.randn(5, 3, 24, 24, dtype=torch.float64, requires_grad=True)
    results = []
    for most in (10**9, 2 * images[0].numel()):
        monkeypatch.setattr(folded, "PART_VALUES", most)
        torch.manual_seed(3)
        tokens = run(embedding, images, "folded")
        results.append((tokens, *torch.autograd.grad(tokens.square().sum(), images)))
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, parts, atol=1e-10, rtol=0)


def test_folded_weights_are_kept_until_a_parameter_changes() -> None:
    embedding = build("rotated", 24, 6)
    images = torch.randn(2, 3, 24, 24)

    def check() -> None:
        with torch.no_grad():
            for _ in range(2):
                expected = run(embedding, images, "stacked")
                tokens = run(embedding, images, "folded")
                torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=0)

    check()
    kept = embedding.views._kept
    check()
    assert embedding.views._kept is kept is not None
    optimizer = torch.optim.AdamW(embedding.parameters(), lr=0.1, fused=True)
    embedding(images).square().sum().backward()
    optimizer.step()
    check()
    assert embedding.views._kept is not kept
    embedding.load_state_dict({k: -v for k, v in embedding.state_dict().items()})
    check()
    with torch.inference_mode():
        embedding.views.norm.weight.mul_(2)
    check()
    embedding.views.proj.bias.data = torch.ones(32)
    check()
    embedding, images = embedding.double(), images.double()
    check()
    assert copy.deepcopy(embedding).views._kept is None


def test_odd_patches_are_computed_by_the_definition() -> None:
    embedding = build("rotated", 21, 7)
    images = torch.randn(2, 3, 21, 21)
    chosen = embedding(images)
    assert torch.equal(chosen, run(embedding, images, "stacked"))
    assert not is_folding_quicker(7, 10**6, 64)


def test_folding_is_for_large_patches_and_many_tokens() -> None:
    assert is_folding_quicker(16, 32 * 196, 192) and not is_folding_quicker(16, 196, 192)
    assert not is_folding_quicker(4, 10**6, 192)
    assert is_folding_quicker(16) and not is_folding_quicker(4)


def test_any_size_of_channels_works() -> None:
    embedding = build_patch_embedding(
        Patches(kind="rotated", form="published"),
        image_size=16,
        patch_size=8,
        width=8,
        in_channels=1,
    ).eval()
    images = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(
        run(embedding, images, "folded"), run(embedding, images, "stacked"), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("formulation", ["folded", "stacked"])
@pytest.mark.parametrize("kind", ["shifted", "rotated"])
def test_export_takes_any_batch_size(kind: str, formulation: str) -> None:
    embedding = build(kind, 24, 6)
    images = torch.randn(2, 3, 24, 24)
    run(embedding, images, formulation)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(embedding, (images,), dynamic_shapes=({0: batch},))
    more = torch.randn(5, 3, 24, 24)
    torch.testing.assert_close(program.module()(more), embedding(more), atol=1e-5, rtol=0)


def test_added_starts_as_the_plain_embedding() -> None:
    plain = build("plain", 24, 6)
    embedding = build_patch_embedding(
        Patches(kind="rotated", form="added"), image_size=24, patch_size=6, width=32, plain=plain
    )
    images = torch.randn(3, 3, 24, 24)
    assert torch.equal(embedding(images), plain(images))
    assert sorted(embedding.state_dict()) == [
        "proj.bias",
        "proj.weight",
        "views.norm.bias",
        "views.norm.weight",
        "views.proj.bias",
        "views.proj.weight",
    ]
    embedding(images).sum().backward()
    assert embedding.views.proj.weight.grad.abs().sum() > 0
    assert embedding.proj.weight.grad.abs().sum() > 0


def test_published_has_no_plain_projection() -> None:
    assert all(key.startswith("views.") for key in build("shifted", 24, 6).state_dict())


def test_faults_are_explained() -> None:
    with pytest.raises(ImageSizeError, match=r"6 px do not divide images of 64 px.*60 and 66"):
        build("rotated", 64, 6)
    with pytest.raises(ImageSizeError, match="32 x 32 px in a network built for 24 x 24"):
        build("rotated", 24, 6)(torch.randn(1, 3, 32, 32))
    with pytest.raises(ModelError, match="1 px have no half"):
        build("shifted", 8, 1)
    with pytest.raises(ModelError, match="Linear does not cut images into patches"):
        build_patch_embedding(
            Patches(kind="rotated", form="added"),
            image_size=24,
            patch_size=6,
            width=32,
            plain=nn.Linear(3, 3),
        )
    with pytest.raises(ValueError, match="decide between"):
        build_patch_embedding(Patches(kind="rotated"), image_size=24, patch_size=6, width=8)
