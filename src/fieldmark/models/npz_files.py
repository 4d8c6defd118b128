"""Google's .npz checkpoints of ViT and BiT, read by timm's own loaders."""

from __future__ import annotations

import copy
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fieldmark.errors import WeightsError
from fieldmark.models.backbones import Backbone, TimmBackbone
from fieldmark.models.weight_files import FileWeights

_HEADS = ("head/kernel", "head/conv2d/kernel")
_POSITIONS = ("posembed_input/pos_embedding", "pos_embedding")


def read_npz(backbone: Backbone, path: Path) -> FileWeights:
    """Read a .npz file as weights for this backbone.

    Position embeddings come back at the backbone's grid. Raises `WeightsError` where the file is
    damaged, holds Python objects (which could run code) or fits no network of this kind.
    """
    if not isinstance(backbone, TimmBackbone) or not hasattr(backbone.net, "load_pretrained"):
        raise WeightsError(
            f"{path}: .npz is the format of Google's ViT and BiT, which '{backbone.name}' cannot "
            "read. Choose one of their timm names, or weights as .safetensors or .pth."
        )
    head, shapes = _read_extras(path)
    scratch = copy.deepcopy(backbone.net)
    with torch.no_grad():
        for parameter in scratch.parameters():
            parameter.fill_(torch.nan)  # what the loader leaves untouched stays recognisable
    try:
        scratch.load_pretrained(str(path))  # type: ignore[operator]
    except (LookupError, RuntimeError, ValueError, AttributeError, AssertionError) as error:
        raise WeightsError(
            f"{path}: weights of another architecture than '{backbone.name}': {error}"
        ) from error
    body = {
        name: tensor
        for name, tensor in scratch.state_dict().items()
        if not (tensor.is_floating_point() and tensor.isnan().all())
    }
    return FileWeights(body, head, shapes)


def _read_extras(path: Path) -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
    """Return the linear head and the shape of the position embedding, where there are any."""
    head: dict[str, Tensor] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            for name in file.files:
                if name.endswith(_HEADS):
                    kernel = torch.from_numpy(file[name])
                    head["weight"] = kernel.reshape(-1, kernel.shape[-1]).T.contiguous()
                    bias = name.removesuffix("kernel") + "bias"
                    head["bias"] = torch.from_numpy(file[bias]).flatten()
                elif name.endswith(_POSITIONS):
                    shapes["pos_embed"] = file[name].shape
    except (ValueError, OSError, LookupError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise WeightsError(
                f"{path}: refused, because loading it would run code (Python objects in a NumPy "
                "file). Nothing was run."
            ) from error
        raise WeightsError(
            f"{path}: cannot be read as .npz weights ({type(error).__name__}). The file is damaged "
            "or of another format; fetch it again."
        ) from error
    return head, shapes
