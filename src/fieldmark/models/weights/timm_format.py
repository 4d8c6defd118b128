"""Between our state dicts and timm's: names, position embeddings, `config.json`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import timm
import torch
from timm.models import model_entrypoint
from torch import Tensor, nn

from fieldmark.models.heads import DistilledHead, Head, LinearHead
from fieldmark.models.timm_backbone import TimmBackbone
from fieldmark.models.weights.positions import Positions, fit_positions

if TYPE_CHECKING:
    from fieldmark.models.classifier import Classifier

State = dict[str, Tensor]

_HEADS: dict[str | None, type[Head]] = {"pooled": LinearHead, "prefix": DistilledHead}
_DISTILLED_PARTS = ("class_token.", "distillation_token.")


def to_timm_state(classifier: Classifier) -> State | None:
    """Return the weights under timm's names, so that timm loads them strictly.

    `timm.create_model(name, num_classes=K, img_size=...)` then gives the same logits. None where
    timm has no such network: a backbone of our own or changed by us, or a head other than linear
    layers on what timm's classifiers read.
    """
    backbone, head = classifier.backbone, classifier.head
    if not isinstance(backbone, TimmBackbone) or not backbone.is_timms_own:
        return None
    expected = _HEADS.get(backbone.classifiers.reads)
    if expected is None or type(head) is not expected:
        return None
    state = {key: tensor.detach() for key, tensor in backbone.state_dict().items()}
    for name, layer in zip(backbone.classifiers.names, head.last_layers, strict=True):
        weight = layer.weight.detach()
        if backbone.classifiers.is_convolution:
            weight = weight[:, :, None, None]
        state |= {f"{name}.weight": weight.clone(), f"{name}.bias": layer.bias.detach().clone()}
    return state


def from_timm_state(classifier: Classifier, state: Mapping[str, Tensor]) -> State:
    """Return our names for what `to_timm_state` gave; the inverse, exact to the bit."""
    backbone = classifier.backbone
    if not isinstance(backbone, TimmBackbone):
        raise TypeError(f"{type(backbone).__name__} has no names in timm")
    body, head = split_timm_state(backbone, state)
    return {f"backbone.{key}": tensor for key, tensor in body.items()} | {
        f"head.{key}": tensor for key, tensor in head.items()
    }


def split_timm_state(backbone: TimmBackbone, state: Mapping[str, Tensor]) -> tuple[State, State]:
    """Part a timm state dict into the backbone's and that of the linear head.

    The second lacks what timm's classifiers lack, and is empty where they cannot be linear layers
    of ours.
    """
    classifiers = backbone.classifiers
    keys = {f"{name}.{kind}" for name in classifiers.names for kind in ("weight", "bias")}
    body = {key: tensor for key, tensor in state.items() if key not in keys}
    if classifiers.reads is None:
        return body, {}
    places = _DISTILLED_PARTS if classifiers.reads == "prefix" else ("",)
    head = {}
    for name, place in zip(classifiers.names, places, strict=True):
        if f"{name}.weight" in state and f"{name}.bias" in state:
            head[f"{place}weight"] = state[f"{name}.weight"].flatten(1)
            head[f"{place}bias"] = state[f"{name}.bias"]
    return body, head


def adapt_timm_state(backbone: TimmBackbone, state: State, positions: Positions = "timm") -> State:
    """Rename and resample a published checkpoint as timm does for this network.

    Position embeddings and relative position tables are brought to the network's grid, the
    former as `positions` says. A state dict that the network's filter does not understand comes
    back as it is.
    """
    state = fit_to_grid(backbone.net, state, positions)
    filter_state = _find_filter(backbone.name)
    if filter_state is None:
        return state
    parameters = inspect.signature(filter_state).parameters
    targets = []
    if len(parameters) > 1:
        targets = [backbone.net if backbone.is_timms_own else build_twin(backbone)]
    options = {}
    if "adapt_layer_scale" in parameters:
        options["adapt_layer_scale"] = True  # DeiT III names layer scale gamma_1, gamma_2
    try:
        adapted = filter_state(dict(state), *targets, **options)
    # Filters trust their input: a foreign state dict makes them fail in any of these ways.
    except (LookupError, RuntimeError, AttributeError, TypeError, ValueError, AssertionError):
        return state
    return dict(adapted)


def build_twin(backbone: TimmBackbone) -> nn.Module:
    """Return timm's own network of the same name and size, without numbers (meta device).

    For those who need timm's network where ours has other patches, tags or no last norm.
    """
    options: dict[str, Any] = {"img_size": backbone.image_size} if backbone.takes_image_size else {}
    with torch.device("meta"):
        return timm.create_model(backbone.name, pretrained=False, num_classes=0, **options)


def fit_to_grid(net: nn.Module, state: State, positions: Positions) -> State:
    """Return the state with its `pos_embed` as `fit_positions` brings it to timm's network."""
    own = getattr(net, "pos_embed", None)
    grid = getattr(getattr(net, "patch_embed", None), "grid_size", None)
    if not isinstance(own, Tensor) or own.ndim != 3 or grid is None:
        return state
    fitted = fit_positions(state, own.detach(), (int(grid[0]), int(grid[1])), positions)
    return state if fitted is None else {**state, "pos_embed": fitted}


def timm_config(classifier: Classifier, image_size: int) -> dict[str, Any]:
    """Return `config.json` in the layout of timm and the Hugging Face hub.

    Beside weights under timm's names, `timm.create_model("local-dir:FOLDER", pretrained=True)`
    loads it. What came with published weights (tag, licence, origin, label offset) is left out:
    these are other weights. `model_args` never has `num_classes`, which would make transformers
    fail on a duplicate argument.
    """
    backbone = classifier.backbone
    num_classes = int(classifier.head.num_classes)
    statistics = backbone.statistics
    config: dict[str, Any] = {
        "num_classes": num_classes,
        "num_features": backbone.width,
        "pretrained_cfg": {
            "num_classes": num_classes,
            "input_size": [3, image_size, image_size],
            "fixed_input_size": False,
            "mean": list(statistics.mean),
            "std": list(statistics.std),
            "interpolation": backbone.interpolation,
            "crop_pct": 1.0,
            "crop_mode": "center",
            "pool_size": None,
            "first_conv": None,
            "classifier": None,
        },
    }
    if not isinstance(backbone, TimmBackbone):
        return {"architecture": backbone.name, **config}
    own = backbone.pretrained_cfg
    is_fixed = bool(own.get("fixed_input_size", False))
    config["num_features"] = int(backbone.net.num_features)  # type: ignore[arg-type]
    for key in ("first_conv", "classifier"):
        config["pretrained_cfg"][key] = own.get(key)
    config["pretrained_cfg"]["fixed_input_size"] = is_fixed
    if backbone.takes_image_size and not is_fixed:
        config["model_args"] = {"img_size": image_size}
    return {"architecture": own["architecture"], **config}


def _find_filter(name: str) -> Callable[..., Mapping[str, Tensor]] | None:
    """Return the checkpoint filter of the module that defines this network."""
    module = sys.modules[model_entrypoint(name.partition(".")[0]).__module__]
    for filter_name in _FILTER_NAMES:
        found = getattr(module, filter_name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
    return None


_FILTER_NAMES = (
    "checkpoint_filter_fn",
    "checkpoint_filter_fn_classifier",
    "_filter_fn",
    "pretrained_filter_fn",
    "_filter_torchvision_pretrained",
)
