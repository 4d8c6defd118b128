"""Centred kernel alignment: how alike two representations of the same images are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def compute_cka(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Linear CKA of two representations (N, D) and (N, E) of the same N images, N from 4.

    Kornblith et al. 2019, "Similarity of neural network representations revisited", equation 3,
    with the unbiased estimator of HSIC (Song et al. 2012, equation 5), so that it does not rise
    with the number of channels; over all N images at once. 1 for representations that differ by
    a rotation, a shift or a scale; about 0 for independent ones.
    """
    matrix = compare_layers([first], [second])
    return float(matrix[0, 0])


def compare_layers(
    first: Sequence[NDArray[np.floating]], second: Sequence[NDArray[np.floating]]
) -> Floats:
    """CKA (L, M) of each of L representations (N, D_l) with each of M."""
    left, right = ([_gram(values) for values in group] for group in (first, second))
    cross = np.array([[_hsic(a, b) for b in right] for a in left])
    own = [np.array([_hsic(gram, gram) for gram in group]) for group in (left, right)]
    scale = np.sqrt(np.maximum(own[0][:, None] * own[1], 0.0))
    similarity: Floats = np.divide(cross, scale, out=np.zeros_like(cross), where=scale > 0)
    return similarity


def _gram(values: NDArray[np.floating]) -> Floats:
    """(N, N) products of the centred rows, with nothing on the diagonal."""
    if len(values) < 4:
        raise ValueError(f"CKA takes at least 4 images, not {len(values)}")
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    gram: Floats = centred @ centred.T
    np.fill_diagonal(gram, 0.0)
    return gram


def _hsic(first: Floats, second: Floats) -> float:
    """Unbiased estimate, up to the factor that CKA divides out."""
    count = len(first)
    total = float((first * second).sum())
    total += float(first.sum() * second.sum()) / ((count - 1) * (count - 2))
    return total - 2 * float(first.sum(axis=0) @ second.sum(axis=0)) / (count - 2)
