"""Published weights: found in the cache, or fetched from where timm says they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import urlopen

import timm
import torch
from huggingface_hub import constants

from fieldmark.errors import WeightsError
from fieldmark.hub import REACH_SECONDS, UnreachableFileError, fetch_hub_file
from fieldmark.models.catalog import CATALOG

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_TIMM_TWINS = {
    "vgg-a": "vgg11",
    "vgg-b": "vgg13",
    "vgg-d": "vgg16",
    "vgg-e": "vgg19",
    "leaf-vgg16": "vgg16",
    "se-resnet50": "seresnet50",
}


@dataclass(frozen=True)
class PublishedWeights:
    """A file of published weights on this machine.

    `label_offset`: rows at the start of its classifier that stand for no class (background).
    """

    path: Path
    source: str
    label_offset: int = 0


def fetch_weights(name: str) -> PublishedWeights:
    """Return the weights published under a timm name, downloaded where they are not cached.

    Networks of our catalog that timm has too take timm's.

    Without network it fails within seconds. Raises `WeightsError` that says how to get them.
    """
    timm_name = _TIMM_TWINS.get(name, name)
    config = None if timm_name in CATALOG else timm.get_pretrained_cfg(timm_name)
    if config is None or not config.has_weights:
        raise WeightsError(
            f"model.pretrained: there are no published weights for '{name}'. Set "
            "model.pretrained=false, or name a file of your own with model.weights=FILE."
        )
    label_offset = int(config.label_offset or 0)
    if config.hf_hub_id:
        repository, _, revision = config.hf_hub_id.partition("@")
        files = (config.hf_hub_filename,) if config.hf_hub_filename else _HUB_FILES
        try:
            path = fetch_hub_file(repository, files, revision or None)
        except UnreachableFileError as error:
            raise WeightsError(_explain_absence(timm_name, repository, str(error))) from error
        return PublishedWeights(path, f"{repository} (Hugging Face hub)", label_offset)
    url, file = _name_file(config.url)
    return PublishedWeights(_download_from_url(timm_name, url, file), url, label_offset)


def _name_file(url: str | tuple[str, str] | None) -> tuple[str, str]:
    """Return address and file name; timm gives the name where the address does not end in it."""
    if isinstance(url, tuple):
        return url
    address = str(url)
    return address, Path(urlparse(address).path).name


def _download_from_url(name: str, url: str, file: str) -> Path:
    """Keep the file where torch and timm look for it too."""
    path = Path(torch.hub.get_dir(), "checkpoints", file)
    if path.is_file():
        return path
    if constants.HF_HUB_OFFLINE:
        raise WeightsError(_explain_absence(name, url, "HF_HUB_OFFLINE is set"))
    try:
        with urlopen(url, timeout=REACH_SECONDS):
            path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path))
    except (URLError, OSError) as error:
        raise WeightsError(_explain_absence(name, url, str(error))) from error
    return path


def _explain_absence(name: str, place: str, reason: str) -> str:
    command = f"python -c \"import timm; timm.create_model('{name}', pretrained=True)\""
    first_line = reason.strip().split("\n")[0]
    return (
        f"model.pretrained: the weights of '{name}' are not on this machine and cannot be fetched "
        f"from {place} ({first_line}). With a network, this fetches them: {command}. Or name a "
        "file that you have: model.weights=FILE, model.pretrained=false."
    )
