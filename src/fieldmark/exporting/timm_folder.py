"""A run as a folder that `timm.create_model("local-dir:...", pretrained=True)` loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from fieldmark.errors import ExportError
from fieldmark.exporting.runtimes import Network
from fieldmark.runs.best import CONFIG_NAME
from fieldmark.runs.checkpoints import WEIGHTS_NAME


def copy_timm_folder(best: Path, folder: Path) -> None:
    """Copy weights and `config.json`; refuse a network that timm has not. Raises `ExportError`."""
    config = json.loads((best / CONFIG_NAME).read_text(encoding="utf-8"))
    about = config["fieldmark"]
    if about["layout"] != "timm":
        model = about["model"]
        raise ExportError(
            f"--format timm: '{model['name']}' with patches {model['patches']['kind']}, head "
            f"{model['head']} and tags {model['tags']['tokenizer']} is not a network of timm's "
            "own, so timm cannot load it. `--format onnx` takes every network without tags"
        )
    for name in (WEIGHTS_NAME, CONFIG_NAME):
        shutil.copyfile(best / name, folder / name)


def run_with_timm(folder: Path) -> Network:
    """Images (B, 3, H, W) -> logits (B, outputs), as timm loads the folder."""
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
        return logits

    return run
