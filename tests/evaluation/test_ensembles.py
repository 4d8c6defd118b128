from __future__ import annotations

from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import pytest

from fieldmark.errors import DataError
from fieldmark.evaluation.ensembles import select_members


def member(invent, seed: int, skill: float):
    """Predictions of the same 200 images: the probability of the true class alone matters."""
    generator = np.random.default_rng(seed)
    likelihood = 1.0 / (1.0 + np.exp(-generator.normal(skill, 2.0, 200)))
    return replace(invent(200), loss=-np.log(likelihood))


def nll(members, counts) -> float:
    likelihoods = np.stack([np.exp(-m.loss) for m in members])
    return float(-np.log(np.average(likelihoods, axis=0, weights=counts)).mean())


def test_selection_is_no_worse_than_the_best_member_and_says_what_it_reached(invent) -> None:
    members = [member(invent, seed, skill) for seed, skill in ((1, 0.4), (2, 0.5), (3, -1.0))]
    selection = select_members(members)
    best = min(nll(members, np.eye(3)[i]) for i in range(3))
    assert selection.nlls[0] == pytest.approx(best)
    assert selection.nlls[-1] == pytest.approx(nll(members, selection.counts))
    assert selection.nlls[-1] < best
    assert (
        list(selection.nlls) == sorted(selection.nlls, reverse=True)
        or min(selection.nlls) == selection.nlls[-1]
    )
    assert sum(selection.weights) == pytest.approx(1.0)


def test_it_comes_near_the_best_of_all_mixtures(invent) -> None:
    members = [member(invent, seed, skill) for seed, skill in ((4, 0.6), (5, 0.3), (6, 0.0))]
    selection = select_members(members)
    tried = [
        nll(members, np.bincount(chosen, minlength=3))
        for chosen in combinations_with_replacement(range(3), 12)
    ]
    assert selection.nlls[-1] < min(tried) + 0.002


def test_a_useless_member_gets_no_weight(invent) -> None:
    good = member(invent, 1, 3.0)
    useless = replace(good, loss=good.loss + 5.0)
    selection = select_members([useless, good])
    assert selection.weights == (0.0, 1.0) and selection.first == 1


def test_selection_needs_labelled_images_of_one_class(invent) -> None:
    with pytest.raises(DataError, match="multi-label"):
        select_members([invent(20, task="multilabel")] * 2)
    blank = invent(5)
    blank.loss[:] = np.nan
    with pytest.raises(DataError, match="none of the validation images is labelled"):
        select_members([blank, blank])
