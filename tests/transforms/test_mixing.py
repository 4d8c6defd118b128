from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fieldmark.transforms import mix_batch

B, K = 6, 4


def draw_batch() -> tuple[Tensor, Tensor]:
    """Images that are constant and tell by their value which one they are."""
    images = torch.arange(B, dtype=torch.float32)[:, None, None, None].expand(B, 3, 20, 30).clone()
    targets = torch.nn.functional.one_hot(torch.arange(B) % K, K).float()
    return images, targets


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0), (0.01, 0.01)])
def test_shares_of_each_label_sum_to_one(mixup, cutmix):
    images, targets = draw_batch()

    for seed in range(50):
        _, mixed = mix_batch(images, targets, mixup=mixup, cutmix=cutmix, seed=seed)
        assert mixed.sum(dim=1).tolist() == pytest.approx([1.0] * B)
        assert (mixed >= 0.0).all()


def test_mixup_blends_images_and_labels_by_the_same_share():
    images = torch.eye(B)[:, None, :, None].expand(B, 3, B, 5).clone()

    mixed, shares = mix_batch(images, torch.eye(B), mixup=1.0, cutmix=0.0, seed=3)

    assert torch.allclose(mixed[:, 0, :, 0], shares)
    assert ((shares > 0.0) & (shares < 1.0)).any()


def test_cutmix_labels_are_the_areas_really_shown():
    images, _ = draw_batch()

    for seed in range(200):
        mixed, shares = mix_batch(images, torch.eye(B), mixup=0.0, cutmix=1.0, seed=seed)
        shown = torch.stack([(mixed == source).float().mean(dim=(1, 2, 3)) for source in range(B)])
        assert torch.allclose(shown.T, shares, atol=1e-6)


def test_cutmix_pastes_one_box_in_the_same_place():
    images, targets = draw_batch()

    mixed, _ = mix_batch(images, targets, mixup=0.0, cutmix=1.0, seed=5)

    pasted = (mixed != images).any(dim=1)  # (B, H, W)
    boxes = {mask.numpy().tobytes() for mask in pasted if mask.any()}
    assert len(boxes) == 1
    rows, columns = np.nonzero(pasted[pasted.flatten(1).any(dim=1)][0].numpy())
    area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert area == len(rows)


def test_each_batch_takes_one_of_both_with_equal_probability():
    images, targets = draw_batch()

    cut = 0
    for seed in range(400):
        mixed, _ = mix_batch(images, targets, mixup=1.0, cutmix=1.0, seed=seed)
        cut += bool((mixed == mixed.round()).all())

    assert 150 < cut < 250


def test_shares_follow_the_beta_distribution():
    images, _ = draw_batch()
    kept = []
    for seed in range(2000):
        _, shares = mix_batch(images, torch.eye(B), mixup=0.4, cutmix=0.0, seed=seed)
        diagonal = shares.diagonal()
        kept += diagonal[diagonal < 1.0][:1].tolist()

    assert np.mean(kept) == pytest.approx(0.5, abs=0.03)
    assert np.var(kept) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.06)


def test_mixing_depends_on_its_seed_alone():
    images, targets = draw_batch()

    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        state = torch.get_rng_state()
        results.append(mix_batch(images, targets, mixup=1.0, cutmix=1.0, seed=2**63 - 1))
        assert torch.equal(torch.get_rng_state(), state)

    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_given_tensors_stay_as_they_are():
    images, targets = draw_batch()
    before = images.clone(), targets.clone()

    for seed in range(10):
        mix_batch(images, targets, mixup=1.0, cutmix=1.0, seed=seed)

    assert torch.equal(images, before[0])
    assert torch.equal(targets, before[1])


def test_multilabel_shares_are_mixed_likewise():
    images, _ = draw_batch()
    targets = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]] * 3)

    _, mixed = mix_batch(images, targets, mixup=1.0, cutmix=0.0, seed=2)

    assert mixed.sum(dim=1).tolist() == pytest.approx([2.0] * B)


@pytest.mark.parametrize("size", [0, 1])
def test_a_batch_too_small_to_mix_passes(size):
    images, targets = draw_batch()

    for seed in range(8):
        mixed, shares = mix_batch(images[:size], targets[:size], mixup=1.0, cutmix=1.0, seed=seed)
        assert torch.equal(mixed, images[:size])
        assert torch.allclose(shares, targets[:size])


def test_both_off_changes_nothing():
    images, targets = draw_batch()

    mixed, shares = mix_batch(images, targets, mixup=0.0, cutmix=0.0, seed=1)

    assert torch.equal(mixed, images)
    assert torch.equal(shares, targets)
