from __future__ import annotations

import os

import pytest

from fieldmark.errors import RecipeError
from fieldmark.recipes import read_recipe
from fieldmark.training.devices import build_accelerator, choose_placement


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(RecipeError, match="fp16 needs a GPU"):
        choose_placement(read_recipe("quick", ["device=cpu", "precision=fp16"]))


def test_unknown_device_names_what_there_is() -> None:
    with pytest.raises(RecipeError, match="cpu"):
        choose_placement(read_recipe("quick", ["device=quantum"]))


def test_workers_are_taken_as_given_or_chosen_by_the_machine() -> None:
    assert choose_placement(read_recipe("quick", ["workers=3"])).num_workers == 3
    chosen = choose_placement(read_recipe("quick", ["device=cpu"])).num_workers
    assert 0 <= chosen <= (os.cpu_count() or 1)


def test_precision_may_change_between_runs_of_one_process() -> None:
    for precision, mixed in (("fp32", "no"), ("bf16", "bf16"), ("fp32", "no")):
        placement = choose_placement(read_recipe("quick", ["device=cpu", f"precision={precision}"]))
        assert build_accelerator(placement).mixed_precision == mixed
