"""Reading weights from files of others, without running anything that they hold."""

from __future__ import annotations

import argparse
import pickletools
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fieldmark.errors import WeightsError

PICKLED = (".pth", ".pt", ".th", ".bin", ".ckpt", ".tar")
SUFFIXES = (".safetensors", *PICKLED, ".npz")

_WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema_state_dict"),  # averaged weights first, as timm has it
    *("state_dict", "model_state_dict", "model", "module", "params", "network", "net"),
)
_PREFIXES = ("_orig_mod.", "module.", "model.", "net.")
_HARMLESS = re.compile(
    r"torch\.(_utils\._rebuild\w*|\w*Storage|storage\.\w+|Size|device)$|collections\.OrderedDict$"
)


@dataclass(frozen=True)
class FileWeights:
    """Weights as a file has them, named and shaped for one backbone.

    body: tensors under the backbone's names.
    head: tensors under the head's names; empty where the file has none that a head here can be.
    shapes: shapes in the file by name, before anything was resampled.
    decoder: tensors of the tag decoder; empty in files of others.
    """

    body: dict[str, Tensor]
    head: dict[str, Tensor]
    shapes: dict[str, tuple[int, ...]]
    decoder: dict[str, Tensor] = field(default_factory=dict)


def check_file(path: Path) -> None:
    """Raise `WeightsError` unless `path` is a file, not empty, of a known suffix."""
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        choice = f" Name a file in it: {', '.join(inside)}." if inside else ""
        raise WeightsError(f"{path}: is a folder, expected a weights file.{choice}")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file. Correct model.weights.")
    if path.suffix.lower() not in SUFFIXES:
        raise WeightsError(
            f"{path}: '{path.suffix}' is not a format of weights. Expected one of "
            f"{', '.join(SUFFIXES)}."
        )
    if path.stat().st_size == 0:
        raise WeightsError(f"{path}: the file is empty. Fetch it again.")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors from .safetensors or from what `torch.save` wrote.

    Unwraps `state_dict`, `model` and the like (averaged weights first) and takes `module.` and
    such off the names. Raises `WeightsError` for files that are broken, hold no tensors, or
    would run code.
    """
    content = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _unpickle(path)
    tensors = _find_tensors(content)
    if not tensors:
        found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content)
        raise WeightsError(
            f"{path}: holds no named tensors, but {found or 'nothing'}. Expected a state dict."
        )
    return _strip_prefixes(tensors)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(_explain_damage(path, error)) from error


def _unpickle(path: Path) -> Any:
    """Unpickle tensors and plain values only, by torch's own restricted reader."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_list_inert_types()):
            warnings.simplefilter("ignore")  # about old formats, which is no news to the user
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail as anything at all
        code = "a TorchScript program" if "TorchScript" in str(error) else None
        if isinstance(error, UnpicklingError):
            code = find_code(path)
        if code is None:
            raise WeightsError(_explain_damage(path, error)) from error
        raise WeightsError(
            f"{path}: refused, because loading it would run code ({code}). Nothing was run. Save "
            "the tensors alone, as torch.save(model.state_dict(), ...) or as .safetensors, where "
            "you trust the file."
        ) from error


def _list_inert_types() -> list[Any]:
    """What training scripts often leave beside the tensors and what cannot do anything."""
    scalar = np.float64(0).__reduce__()[0]
    numbers = [type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)]
    return [
        *(argparse.Namespace, np.dtype, scalar),
        (scalar, "numpy.core.multiarray.scalar"),  # its name before numpy 2
        *numbers,
    ]


def find_code(path: Path) -> str | None:
    """Return what a pickle would call beyond tensors, without unpickling; None: nothing found."""
    calls = (call for data in _read_pickles(path) for call in _list_calls(BytesIO(data)))
    return next((call for call in calls if not _HARMLESS.match(call)), None)


def _read_pickles(path: Path) -> Iterator[bytes]:
    """Yield the pickles of torch's archive, or the file itself where it is none."""
    try:
        if not zipfile.is_zipfile(path):
            yield path.read_bytes()
            return
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith("data.pkl"):
                    yield archive.read(name)
    # A damaged archive fails in any of these ways; then there is nothing to name.
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, ValueError, EOFError):
        return


def _list_calls(file: BytesIO) -> Iterator[str]:
    """Yield `module.name` of everything that the pickles in a file look up, one after another."""
    texts: list[str] = []
    try:
        while file.tell() < len(file.getbuffer()):
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "GLOBAL":
                    yield str(argument).replace(" ", ".")
                elif opcode.name == "STACK_GLOBAL":
                    yield ".".join(texts[-2:])
                elif isinstance(argument, str):
                    texts.append(argument)
    except ValueError:  # the end of the pickles: tensors follow, or the file is damaged
        return


def _find_tensors(content: Any) -> dict[str, Tensor]:
    """Return the named tensors of a state dict, wrapped or not."""
    if not isinstance(content, Mapping):
        return {}
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            return _find_tensors(content[wrapper])
    return {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }


def _strip_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off what wrappers put before every name."""
    for prefix in (*_PREFIXES, *_PREFIXES):  # twice: they come in either order
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _explain_damage(path: Path, error: Exception) -> str:
    reason = type(error).__name__
    if isinstance(error, RuntimeError | OSError | SafetensorError):
        reason = str(error).strip().split("\n")[0].split(". ")[0]
    return (
        f"{path}: cannot be read as {path.suffix} weights ({reason}). The file is damaged or of "
        "another format; fetch it again."
    )
