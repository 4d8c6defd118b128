"""Checkpoints: weights as safetensors, the rest of the training state beside them.

`last` is written whole or not at all (see `files.save_folder`). The training state is read with
`weights_only=True`, so nothing in it can run.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fieldmark.errors import RunChangedError
from fieldmark.runs.files import find_folder, save_folder

WEIGHTS_NAME = "model.safetensors"
STATE_NAME = "training.pt"


@dataclass(frozen=True)
class Checkpoint:
    """Model weights by name, and plain values and tensors of everything else."""

    weights: Mapping[str, Tensor]
    state: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in `folder`."""

    def fill(part: Path) -> None:
        save_weights(checkpoint.weights, part / WEIGHTS_NAME)
        try:
            torch.save(dict(checkpoint.state), part / STATE_NAME)
        except RuntimeError as error:  # how torch's own writer tells that the disk is full
            raise OSError(str(error).splitlines()[0]) from error

    save_folder(folder, fill)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint, or None where none was written yet."""
    found = find_folder(folder)
    if found is None:
        return None
    try:
        weights = load_file(found / WEIGHTS_NAME)
        state = torch.load(found / STATE_NAME, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise RunChangedError(
            f"{found}: is not a checkpoint of fieldmark or was changed: {error}. "
            "Restore the folder, or train a new run"
        ) from error
    return Checkpoint(weights, state)


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors; a failed write is an `OSError` like any other's."""
    tensors: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in weights.items():
        whole = tensor.detach().cpu().contiguous()
        # safetensors refuses tensors that share memory; each gets its own copy.
        tensors[name] = whole.clone() if whole.data_ptr() in places else whole
        places.add(whole.data_ptr())
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from error
