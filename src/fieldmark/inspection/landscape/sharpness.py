"""How steep the loss rises around the weights: `measure_sharpness`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fieldmark.inspection.landscape.directions import draw_plane
from fieldmark.inspection.landscape.losses import Sample, mean_loss
from fieldmark.inspection.landscape.weights import MovedCopy, is_moved
from fieldmark.seeds import derive_seed

BATCH_SIZE = 64
RHO = 0.05
RADIUS = 0.25
NUM_DIRECTIONS = 8
Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sharpness:
    """Figures of one network on one sample; with the same seed two networks can be compared.

    top_eigenvalue: the largest of the Hessian of the loss in the trained parameters. num_steps:
        of Lanczos that found it. sam_rise: L(w + rho g / ||g||) - L(w), the SAM objective's
        first-order worst case within `rho` (Foret et al. 2021, equation 2). filter_rise: mean
        rise along random filter-normalised directions of length `radius`, which rescaling the
        layers does not change.
    """

    loss: float
    top_eigenvalue: float
    num_steps: int
    sam_rise: float
    rho: float
    filter_rise: float
    radius: float
    num_images: int
    seed: int


def measure_sharpness(
    network: nn.Module,
    sample: Sample,
    *,
    rho: float = RHO,
    radius: float = RADIUS,
    seed: int = 0,
    max_steps: int = 40,
    count: Callable[[int, int], None] = lambda _done, _total: None,
) -> Sharpness:
    """Measure in float32 and evaluation mode; the network is not written to.

    `max_steps`: of Lanczos, each about the cost of four passes over the sample, forward and back.
    """
    names = tuple(name for name, p in network.named_parameters() if p.requires_grad)
    differentiated = copy.deepcopy(network).eval()
    parameters = [dict(differentiated.named_parameters())[name] for name in names]
    slope = _Slope(differentiated, parameters, sample)
    size = sum(p.numel() for p in parameters)
    eigenvalue, num_steps = find_top_eigenvalue(
        slope.curve, size, seed=seed, max_steps=max_steps, device=parameters[0].device, count=count
    )
    gradient = slope.gradient()
    moved = MovedCopy(network, names)
    here = mean_loss(moved.network, sample, batch_size=BATCH_SIZE)
    worst = moved.put(moved.centre + rho * gradient / gradient.norm().clamp_min(1e-30))
    return Sharpness(
        loss=here,
        top_eigenvalue=eigenvalue,
        num_steps=num_steps,
        sam_rise=mean_loss(worst, sample, batch_size=BATCH_SIZE) - here,
        rho=rho,
        filter_rise=_mean_rise(network, sample, radius, seed, here),
        radius=radius,
        num_images=len(sample),
        seed=seed,
    )


def find_top_eigenvalue(
    product: Product,
    size: int,
    *,
    seed: int,
    max_steps: int = 40,
    tolerance: float = 1e-3,
    device: torch.device | None = None,
    count: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[float, int]:
    """Return the largest eigenvalue of a symmetric (P, P) matrix, and the steps that it took.

    Lanczos' three-term recurrence (Golub and Van Loan, section 10.1): only three vectors are
    kept, whatever the size. The basis loses its orthogonality in time; that repeats eigenvalues
    which were found, and changes none (Paige 1971). Ends where two steps in a row changed the
    value by less than `tolerance` of it.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "lanczos"))
    vector = torch.randn(size, generator=generator).to(device)
    vector /= vector.norm()
    previous, beta = torch.zeros_like(vector), 0.0
    alphas: list[float] = []
    betas: list[float] = []
    values = [np.inf]
    for step in range(min(max_steps, size)):
        image = product(vector) - beta * previous
        alpha = float(image @ vector)
        alphas.append(alpha)
        tridiagonal = eigh_tridiagonal(np.array(alphas), np.array(betas), eigvals_only=True)
        values.append(float(tridiagonal[-1]))
        count(step + 1, min(max_steps, size))
        image -= alpha * vector
        beta = float(image.norm())
        scale = max(abs(value) for value in tridiagonal)
        settled = [abs(a - b) <= tolerance * abs(b) for a, b in pairwise(values)]
        if beta <= 1e-7 * scale or (len(settled) > 2 and all(settled[-2:])):
            break
        betas.append(beta)
        previous, vector = vector, image / beta
    return values[-1], len(alphas)


class _Slope:
    """Gradient of the mean loss in chosen parameters, and its change along a vector."""

    def __init__(self, network: nn.Module, parameters: list[nn.Parameter], sample: Sample) -> None:
        self.network, self.parameters, self.sample = network, parameters, sample

    def gradient(self) -> Tensor:
        """(P,)."""
        return self._sum(lambda gradient: gradient)

    def curve(self, vector: Tensor) -> Tensor:
        """Hessian times `vector` (P,), by differentiating the gradient's part along it."""

        def along(gradient: Tensor) -> Tensor:
            if not gradient.requires_grad:  # the loss is linear here
                return torch.zeros_like(vector)
            found = torch.autograd.grad(gradient @ vector, self.parameters, allow_unused=True)
            return self._flatten(found)

        return self._sum(along, twice=True)

    def _sum(self, change: Product, *, twice: bool = False) -> Tensor:
        parts = [
            torch.split(part, BATCH_SIZE) for part in (*self.sample.inputs, self.sample.targets)
        ]
        total = torch.zeros(())
        for *inputs, targets in zip(*parts, strict=True):
            # The fused kernels of attention have no second derivative.
            with sdpa_kernel(SDPBackend.MATH):
                loss = self.sample.loss(self.network(*inputs), targets).sum() / len(self.sample)
                found = torch.autograd.grad(
                    loss, self.parameters, create_graph=twice, allow_unused=True
                )
                total = total.to(loss.device) + change(self._flatten(found)).detach()
        return total

    def _flatten(self, found: tuple[Tensor | None, ...]) -> Tensor:
        """Parameters that the loss does not depend on have a slope of zero."""
        pairs = zip(found, self.parameters, strict=True)
        return torch.cat(
            [(torch.zeros_like(p) if g is None else g).reshape(-1).float() for g, p in pairs]
        )


def _mean_rise(network: nn.Module, sample: Sample, radius: float, seed: int, here: float) -> float:
    named = {n: p for n, p in network.named_parameters() if p.requires_grad and is_moved(n, p)}
    moved = MovedCopy(network, named)
    rises = []
    for number in range(NUM_DIRECTIONS):
        direction = draw_plane(named, seed=derive_seed(seed, "rise", number)).first
        there = moved.put(moved.centre + radius * direction.to(moved.centre.device))
        rises.append(mean_loss(there, sample, batch_size=BATCH_SIZE) - here)
    return float(np.mean(rises))
