from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import timm
import torch
from huggingface_hub import constants, errors
from safetensors.torch import save_file

from fieldmark import hub as hub_files
from fieldmark.errors import WeightsError
from fieldmark.models.classifier import build_classifier
from fieldmark.models.weights import published
from fieldmark.models.weights.published import fetch_weights
from fieldmark.recipes.schema import Model

FETCH = r"python -c \"import timm; timm.create_model\('resnet10t', pretrained=True\)\""


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of our own, and no way to the network."""

    def refuse(*args: object, **keys: object) -> None:
        raise errors.OfflineModeIsEnabled("no network in tests")

    hub = tmp_path / "hub"
    monkeypatch.setattr(hub_files, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    return hub


def fill_cache(hub: Path, state: dict[str, torch.Tensor]) -> Path:
    """Lay a file where the hub's client keeps that of resnet10t's default weights."""
    config = timm.get_pretrained_cfg("resnet10t")
    folder = hub / f"models--{config.hf_hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    path = folder / "snapshots" / ("0" * 40) / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_file(state, path)
    return path


def test_cached_weights_need_no_network(empty_caches: Path) -> None:
    net = timm.create_model("resnet10t").eval()
    fill_cache(empty_caches, net.state_dict())
    classifier, report = build_classifier(
        Model(name="resnet10t", pretrained=True), num_classes=1000, image_size=64
    )
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(classifier.eval()(images), net(images), atol=1e-5)
    assert report is not None
    assert report.source == "timm/resnet10t.c3_in1k (Hugging Face hub)"


def test_absent_weights_say_how_to_get_them() -> None:
    with pytest.raises(WeightsError, match=FETCH) as caught:
        fetch_weights("resnet10t")
    assert "timm/resnet10t.c3_in1k" in str(caught.value)
    assert "model.weights=FILE" in str(caught.value)


def test_offline_does_not_even_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **keys: object) -> None:
        pytest.fail("asked the hub")

    monkeypatch.setattr(hub_files, "get_hf_file_metadata", fail)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        fetch_weights("resnet10t")


def test_weights_outside_the_hub_are_kept_in_torchs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **keys: object) -> None:
        raise URLError("no network in tests")

    monkeypatch.setattr(published, "urlopen", refuse)
    config = timm.get_pretrained_cfg("resnet10t")
    monkeypatch.setattr(published.timm, "get_pretrained_cfg", lambda name: config)
    monkeypatch.setattr(config, "hf_hub_id", None)
    monkeypatch.setattr(config, "url", "https://example.org/a/net.pth?raw=1")
    with pytest.raises(WeightsError, match="no network in tests"):
        fetch_weights("resnet10t")
    cached = tmp_path / "torch" / "checkpoints" / "net.pth"
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert fetch_weights("resnet10t").path == cached


@pytest.mark.parametrize("name", ["cnn-baseline", "resnet14t_x"])
def test_networks_without_published_weights_say_so(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published.timm, "get_pretrained_cfg", lambda name: None)
    with pytest.raises(WeightsError, match=f"no published weights for '{name}'"):
        fetch_weights(name)


def test_network_of_ours_that_timm_publishes_takes_timms_weights() -> None:
    with pytest.raises(WeightsError, match=r"timm\.create_model\('vgg16', pretrained=True\)"):
        fetch_weights("leaf-vgg16")
