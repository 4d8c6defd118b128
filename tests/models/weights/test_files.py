from __future__ import annotations

import argparse
import os
import pickle
import random
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fieldmark.errors import WeightsError
from fieldmark.models.weights.files import SUFFIXES, check_file, read_tensors

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2)}


class Trap:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def assert_same(found: dict[str, torch.Tensor]) -> None:
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".th", ".bin"])
@pytest.mark.parametrize("new_format", [True, False])
def test_torch_files_are_read(suffix: str, new_format: bool, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(STATE, path, _use_new_zipfile_serialization=new_format)
    assert_same(read_tensors(path))


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "weights.safetensors")
    assert_same(read_tensors(tmp_path / "weights.safetensors"))


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": STATE, "best_prec1": 91.2, "epoch": 3},
        {"model": STATE, "args": argparse.Namespace(lr=0.1), "best": np.float64(3.0)},
        {"model": {"conv.weight": torch.zeros(1)}, "model_ema": STATE},
        {"model": None, "state_dict": OrderedDict(STATE)},
        {"state_dict": {f"module.{name}": tensor for name, tensor in STATE.items()}},
        {f"module._orig_mod.{name}": tensor for name, tensor in STATE.items()},
        {**STATE, "version": 3},
    ],
    ids=["state_dict", "training", "averaged", "none", "parallel", "compiled", "extra"],
)
def test_wrappers_are_taken_off(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    assert_same(read_tensors(tmp_path / "weights.pth"))


def save_archive(content: object, path: Path) -> None:
    torch.save(content, path)


def save_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("save", [save_archive, save_legacy, save_pickle])
def test_code_is_refused_and_not_run(save, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    save({"model": Trap(tmp_path / "sprung")}, path)
    with pytest.raises(WeightsError, match=r"would run code \(posix.mkdir\|?.*Nothing was run"):
        read_tensors(path)
    assert not (tmp_path / "sprung").exists()


def test_whole_pickled_networks_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_tensors(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["whole.pth", "old.pth", "whole.safetensors"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_files_are_named(name: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith(".safetensors"):
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=name == "whole.pth")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WeightsError, match=f"{name}.*damaged"):
        read_tensors(path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32), suffix=st.sampled_from([".pth", ".safetensors"]))
def test_damaged_bytes_never_escape_as_another_error(
    seed: int, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(STATE, path) if suffix == ".pth" else save_file(STATE, path)
    data, source = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(20):
        data[source.randrange(len(data))] = source.randrange(256)
    path.write_bytes(data)
    try:
        read_tensors(path)
    except WeightsError as error:
        assert str(path) in str(error)


def test_file_without_tensors_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.1}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="no named tensors, but epoch, loss"):
        read_tensors(tmp_path / "weights.pth")


def test_unusable_paths_say_why(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    (tmp_path / "weights.h5").write_text("x")
    save_file(STATE, tmp_path / "model.safetensors")
    for name, text in [
        ("none.pth", "no such file"),
        ("empty.pth", "is empty"),
        ("weights.h5", f"Expected one of {', '.join(SUFFIXES)}"),
        (".", "is a folder, expected a weights file. Name a file in it: empty.pth, model"),
    ]:
        with pytest.raises(WeightsError, match=text):
            check_file(tmp_path / name)
