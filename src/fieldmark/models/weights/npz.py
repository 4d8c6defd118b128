"""Google's .npz checkpoints of ViT and BiT, read by timm's own loaders."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fieldmark.errors import WeightsError
from fieldmark.models.backbones import Backbone
from fieldmark.models.timm_backbone import TimmBackbone
from fieldmark.models.weights.files import FileWeights
from fieldmark.models.weights.positions import Positions
from fieldmark.models.weights.timm_format import build_twin, fit_to_grid

_HEADS = ("head/kernel", "head/conv2d/kernel")
_POSITIONS = ("posembed_input/pos_embedding", "pos_embedding")


def read_npz(backbone: Backbone, path: Path, positions: Positions = "timm") -> FileWeights:
    """Read a .npz file as weights for this backbone.

    Position embeddings come back at the backbone's grid: by timm's loader, which is bilinear for
    these files, or with `positions` "corners". Raises `WeightsError` where the file is damaged,
    holds Python objects (which could run code) or fits no network of this kind.
    """
    twin = build_twin(backbone) if isinstance(backbone, TimmBackbone) else None
    if twin is None or not hasattr(twin, "load_pretrained"):
        raise WeightsError(
            f"{path}: .npz is the format of Google's ViT and BiT, which '{backbone.name}' cannot "
            "read. Choose one of their timm names, or weights as .safetensors or .pth."
        )
    head, published = _read_extras(path)
    body = _read_body(twin, backbone.name, path)
    if positions == "corners" and published is not None:
        found = {"cls_token": body["cls_token"]} if "cls_token" in body else {}
        found |= {"pos_embed": published}
        body["pos_embed"] = fit_to_grid(twin, found, positions)["pos_embed"]
    shapes = {} if published is None else {"pos_embed": tuple(published.shape)}
    return FileWeights(body, head, shapes)


def _read_body(twin: nn.Module, name: str, path: Path) -> dict[str, Tensor]:
    """Let timm's loader fill its own network; return what it filled."""
    twin = twin.to_empty(device="cpu")
    for tensor in twin.state_dict().values():
        if tensor.is_floating_point():
            tensor.fill_(torch.nan)  # what the loader leaves untouched stays recognisable
    try:
        twin.load_pretrained(str(path))  # type: ignore[operator]
    except (LookupError, RuntimeError, ValueError, AttributeError, AssertionError) as error:
        raise WeightsError(
            f"{path}: weights of another architecture than '{name}': {error}"
        ) from error
    return {
        name: tensor
        for name, tensor in twin.state_dict().items()
        if tensor.is_floating_point() and not tensor.isnan().all()
    }


def _read_extras(path: Path) -> tuple[dict[str, Tensor], Tensor | None]:
    """Return the linear head and the position embedding (1, N, D), where there are any."""
    head: dict[str, Tensor] = {}
    positions: Tensor | None = None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            for name in file.files:
                if name.endswith(_HEADS):
                    kernel = torch.from_numpy(file[name])
                    head["weight"] = kernel.reshape(-1, kernel.shape[-1]).T.contiguous()
                    bias = name.removesuffix("kernel") + "bias"
                    head["bias"] = torch.from_numpy(file[bias]).flatten()
                elif name.endswith(_POSITIONS):
                    positions = torch.from_numpy(file[name])
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
    return head, positions
