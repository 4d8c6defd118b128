"""On a quadratic loss every figure of the landscape is known by arithmetic."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fieldmark.errors import ModelError
from fieldmark.inspection.landscape.directions import draw_plane
from fieldmark.inspection.landscape.line import compute_line
from fieldmark.inspection.landscape.losses import Sample
from fieldmark.inspection.landscape.points import PointStore
from fieldmark.inspection.landscape.sharpness import find_top_eigenvalue, measure_sharpness
from fieldmark.inspection.landscape.surface import compute_surface

INPUTS = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
GOAL = torch.tensor([1.0, -2.0, 0.5, 3.0])
HESSIAN = (INPUTS.T @ INPUTS / len(INPUTS)).double()


def half_squares(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits[:, 0].float() - targets).square() / 2


def quadratic_sample() -> Sample:
    """Mean loss (w - GOAL)^T HESSIAN (w - GOAL) / 2."""
    return Sample((INPUTS,), INPUTS @ GOAL, half_squares, "40 vectors")


def linear(*weights: float) -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Dropout(0.5))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([weights]))
    return network


def analytic(weights: Tensor) -> float:
    apart = weights.double() - GOAL
    return float(apart @ HESSIAN @ apart / 2)


def test_every_point_of_the_plane_is_the_analytic_loss_and_the_middle_is_the_network() -> None:
    network = linear(1.5, -1.0, 0.0, 2.0)
    weights = dict(network.named_parameters())
    plane = draw_plane(weights, seed=3)
    surface = compute_surface(
        network, quadratic_sample(), plane, points=7, distance=1.5, precision=torch.float32
    )
    centre = weights["0.weight"].detach().flatten()
    expected = [
        [analytic(centre + a * plane.first + b * plane.second) for a in surface.steps]
        for b in surface.steps
    ]
    assert np.allclose(surface.losses, expected, rtol=1e-5)
    assert surface.steps[3] == 0.0
    assert surface.steps[0] == -surface.steps[6] == -1.5
    assert surface.centre == surface.exact_centre == pytest.approx(analytic(centre), rel=1e-6)


def test_the_largest_eigenvalue_and_the_worst_step_are_the_analytic_ones() -> None:
    network = linear(0.3, 0.2, -0.5, 1.0)
    sharpness = measure_sharpness(network, quadratic_sample(), rho=0.05)
    eigenvalues = torch.linalg.eigvalsh(HESSIAN)
    assert sharpness.top_eigenvalue == pytest.approx(float(eigenvalues[-1]), rel=1e-4)
    centre = dict(network.named_parameters())["0.weight"].detach().flatten().double()
    slope = HESSIAN @ (centre - GOAL)
    worst = analytic(centre + 0.05 * slope / slope.norm())
    assert sharpness.sam_rise == pytest.approx(worst - analytic(centre), rel=1e-3)
    assert sharpness.loss == pytest.approx(analytic(centre), rel=1e-6)


def test_lanczos_finds_the_largest_not_the_farthest_from_zero() -> None:
    diagonal = torch.cat([torch.tensor([-50.0, 7.0]), torch.linspace(-5, 5, 500)])
    value, num_steps = find_top_eigenvalue(lambda v: diagonal * v, 502, seed=0, max_steps=80)
    assert value == pytest.approx(7.0, rel=5e-3)
    assert num_steps < 80
    assert find_top_eigenvalue(lambda v: 3 * v, 1, seed=0)[0] == pytest.approx(3.0)


def test_the_hessian_goes_through_attention() -> None:
    torch.manual_seed(0)
    network = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    inputs = torch.randn(6, 3, 4)
    sample = Sample((inputs,), torch.zeros(6), lambda x, _: x.square().mean(dim=(1, 2)), "six")
    found = measure_sharpness(network, sample, max_steps=60)
    names = [name for name, _ in network.named_parameters()]
    start = [p.detach() for p in network.parameters()]
    sizes = [p.numel() for p in start]

    def loss(values: Tensor) -> Tensor:
        parts = values.split(sizes)
        named = {n: v.view_as(p) for n, v, p in zip(names, parts, start, strict=True)}
        return sample.loss(torch.func.functional_call(network, named, (inputs,)), inputs).mean()

    network.eval()
    centre = torch.cat([p.reshape(-1) for p in start])
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        hessian = torch.autograd.functional.hessian(loss, centre)
    assert isinstance(hessian, Tensor)
    expected = float(torch.linalg.eigvalsh(hessian)[-1])
    assert found.top_eigenvalue == pytest.approx(expected, rel=1e-2)


def test_directions_are_as_long_as_each_filter_and_orthogonal_in_it() -> None:
    convolution, head = nn.Conv2d(3, 5, 3), nn.Linear(7, 2)
    weights = {"convolution": convolution.weight, "head": head.weight}
    plane = draw_plane(weights, seed=0)
    rows = 0
    for weight in weights.values():
        filters = weight.detach().flatten(1)
        part = slice(rows, rows + filters.numel())
        first, second = (d[part].view_as(filters) for d in (plane.first, plane.second))
        for direction in (first, second):
            assert torch.allclose(direction.norm(dim=1), filters.norm(dim=1), rtol=1e-5)
        assert torch.allclose((first * second).sum(dim=1), torch.zeros(len(filters)), atol=1e-5)
        assert 0.2 < (first > 0).float().mean() < 0.8  # not all positive
        rows += filters.numel()
    again, other = draw_plane(weights, seed=0), draw_plane(weights, seed=1)
    assert torch.equal(plane.first, again.first)
    assert not torch.equal(plane.first, other.first)


def test_the_network_keeps_every_bit_also_when_the_computation_fails() -> None:
    network = linear(1.5, -1.0, 0.0, 2.0)
    before = copy.deepcopy(network.state_dict())
    plane = draw_plane(dict(network.named_parameters()), seed=0)

    def stop(done: int, _total: int) -> None:
        if done > 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_surface(network, quadratic_sample(), plane, points=5, count=stop)
    compute_surface(network, quadratic_sample(), plane, points=5)
    measure_sharpness(network, quadratic_sample())
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_a_surface_that_was_cut_off_goes_on_and_gives_the_same_numbers(tmp_path: Path) -> None:
    network, sample = linear(1.5, -1.0, 0.0, 2.0), quadratic_sample()
    plane = draw_plane(dict(network.named_parameters()), seed=0)
    store = PointStore.inside(tmp_path, {"seed": 0})

    def stop(done: int, _total: int) -> None:
        if done >= 400:
            raise KeyboardInterrupt

    whole = compute_surface(network, sample, plane, points=5)
    with pytest.raises(KeyboardInterrupt):
        compute_surface(network, sample, plane, points=5, store=store, count=stop)
    known = np.isfinite(PointStore.inside(tmp_path, {"seed": 0}).load(50)).sum()
    assert 0 < known < 25
    store = PointStore.inside(tmp_path, {"seed": 0})
    again = compute_surface(network, sample, plane, points=5, store=store)
    assert np.array_equal(again.losses, whole.losses)
    other = PointStore.inside(tmp_path, {"seed": 1})
    assert np.isnan(other.load(50)).all()


def test_few_images_and_a_lattice_come_near_to_all_images_and_say_how_near() -> None:
    network, sample = linear(1.5, -1.0, 0.0, 2.0), quadratic_sample()
    plane = draw_plane(dict(network.named_parameters()), seed=3)
    settings = {"points": 31, "precision": torch.float32}
    whole = compute_surface(network, sample, plane, few=None, **settings)
    quick = compute_surface(network, sample, plane, few=10, **settings)
    assert whole.interpolation is None
    assert quick.interpolation is not None
    error = np.abs(quick.losses - whole.losses) / whole.losses
    assert error.max() < 0.2
    assert quick.interpolation.max_error <= error.max() * 1.001
    assert 0 < quick.interpolation.mean_error == pytest.approx(error.mean(), rel=1.0)
    assert quick.centre == pytest.approx(whole.centre, rel=1e-6)
    assert quick.interpolation.num_full < whole.losses.size / 10


def test_the_line_between_two_networks_has_both_at_its_ends() -> None:
    start, end = linear(0.0, 0.0, 0.0, 0.0), linear(*(2 * GOAL).tolist())
    line = compute_line(start, end, quadratic_sample(), points=7)
    goal = 2 * GOAL
    assert np.allclose(line.losses, [analytic(float(t) * goal) for t in line.places], rtol=1e-4)
    assert {0.0, 1.0} <= set(line.places.tolist())
    assert line.barrier == 0.0  # a parabola sags


def test_different_networks_are_refused() -> None:
    other = nn.Sequential(nn.Linear(5, 1, bias=False), nn.Dropout(0.5))
    with pytest.raises(ModelError, match=r"0.weight is \(1, 4\) in runs/a and \(1, 5\) in runs/b"):
        compute_line(linear(1, 2, 3, 4), other, quadratic_sample(), names=("runs/a", "runs/b"))


def test_batch_norms_move_their_statistics_along_the_line() -> None:
    start, end = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    end.running_mean.copy_(GOAL)
    sample = Sample((INPUTS,), INPUTS[:, 0], half_squares, "40 vectors")
    line = compute_line(start, end, sample, points=3, beyond=0.0)
    norm = nn.BatchNorm1d(4).eval()
    norm.running_mean.copy_(GOAL / 2)
    expected = half_squares(norm(INPUTS), INPUTS[:, 0]).mean().detach()
    assert line.losses[1] == pytest.approx(float(expected), rel=1e-5)


def test_an_even_number_of_points_has_no_centre() -> None:
    network = linear(1, 2, 3, 4)
    plane = draw_plane(dict(network.named_parameters()), seed=0)
    with pytest.raises(ValueError, match=r"odd number from 3.*not 50"):
        compute_surface(network, quadratic_sample(), plane, points=50)
