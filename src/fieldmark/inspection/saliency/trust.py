"""Whether a saliency map means anything.

Deletion and insertion (Petsiuk, Das and Saenko 2018, section 4.3): if a map is right, taking its
pixels away from the most to the least important lowers the probability sooner than taking random
ones, and putting them back raises it sooner. Randomised weights (Adebayo et al. 2018, section 3):
a map that looks the same for a network that has learned nothing shows the image, not the network.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2.functional import gaussian_blur

from fieldmark.inspection.asking import Answer
from fieldmark.models.classifier import Classifier

Floats = NDArray[np.float32]
BATCH_SIZE = 16
NUM_RANDOM = 5


@dataclass(frozen=True)
class Curves:
    """Probability of the class by the share of pixels deleted or inserted, both (S + 1,)."""

    deletion: Floats
    insertion: Floats

    @property
    def deletion_area(self) -> float:
        """Area under the curve: the lower, the better the map."""
        return _area(self.deletion)

    @property
    def insertion_area(self) -> float:
        """Area under the curve: the higher, the better the map."""
        return _area(self.insertion)


@dataclass(frozen=True)
class Faithfulness:
    """The curves of a map and of random maps as coarse."""

    curves: Curves
    random: tuple[Curves, ...]

    @property
    def beats_random(self) -> tuple[bool, bool]:
        """Whether deletion, and insertion, are better than those of every random map."""
        return (
            self.curves.deletion_area < min(each.deletion_area for each in self.random),
            self.curves.insertion_area > max(each.insertion_area for each in self.random),
        )


def measure_faithfulness(
    answer: Answer, pixels: Tensor, values: Floats, *, cell_px: float, steps: int, seed: int
) -> Faithfulness:
    """Measure a map (H, W) of an image (3, H, W), and `NUM_RANDOM` random ones."""
    rng = np.random.default_rng(seed)
    maps = [draw_random_map(values.shape, cell_px, rng) for _ in range(NUM_RANDOM)]
    return Faithfulness(
        measure_curves(answer, pixels, values, steps=steps, rng=rng),
        tuple(measure_curves(answer, pixels, each, steps=steps, rng=rng) for each in maps),
    )


@torch.no_grad()
def measure_curves(
    answer: Answer, pixels: Tensor, values: Floats, *, steps: int, rng: np.random.Generator
) -> Curves:
    """Delete and insert the pixels of an image (3, H, W) in the order of a map (H, W).

    Deleted pixels become the mean colour; insertion begins with a blurred image. Pixels of equal
    value come in random order.
    """
    size = values.size
    order = np.lexsort((rng.random(size), -values.ravel()))
    rank = np.empty(size, dtype=np.int64)
    rank[order] = np.arange(size)
    place = torch.from_numpy(rank.reshape(values.shape)).to(pixels.device)
    shares = torch.linspace(0, 1, steps + 1)
    taken = torch.stack([place < round(float(share) * size) for share in shares])[:, None]
    blurred = blur(pixels)
    deletion, insertion = [], []
    for part in taken.split(BATCH_SIZE):  # (b, 1, H, W)
        deletion.append(answer.probability(torch.where(part, 0.0, pixels)))
        insertion.append(answer.probability(torch.where(part, pixels, blurred)))
    return Curves(*(torch.cat(each).float().cpu().numpy() for each in (deletion, insertion)))


def blur(pixels: Tensor) -> Tensor:
    """An image (3, H, W) without detail: a Gaussian with a deviation of a tenth of its side."""
    side = min(pixels.shape[1:])
    kernel = max(3, side // 2 | 1)
    blurred: Tensor = gaussian_blur(pixels, [kernel, kernel], [side / 10, side / 10])
    return blurred


def draw_random_map(shape: tuple[int, ...], cell_px: float, rng: np.random.Generator) -> Floats:
    """(H, W) of uniform noise in cells of that size, stretched smoothly.

    Single random pixels would ruin any image at once and make every coarse map look bad.
    """
    height, width = shape
    rows, columns = (max(2, round(side / cell_px)) for side in (height, width))
    noise = torch.from_numpy(rng.random((1, 1, rows, columns), dtype=np.float32))
    stretched = functional.interpolate(noise, (height, width), mode="bilinear")
    values: Floats = stretched[0, 0].numpy()
    return values


@torch.no_grad()
def shuffle_weights(classifier: Classifier, seed: int) -> Classifier:
    """A copy that has learned nothing: the numbers of each parameter in random order.

    Their distribution stays, layer by layer, so that activity neither dies nor explodes.
    """
    shuffled = copy.deepcopy(classifier)
    generator = torch.Generator().manual_seed(seed)
    for parameter in _parameters(shuffled):
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return shuffled.eval()


def _parameters(network: nn.Module) -> list[nn.Parameter]:
    return list(network.parameters())


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's correlation of two maps over their pixels; 0 where one of them is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first.ravel(), second.ravel()).statistic)


def _area(curve: Floats) -> float:
    """Trapezoids over 0..1."""
    return float(((curve[1:] + curve[:-1]) / 2).mean())
