"""Building a backbone from a timm name: the options it has and the image sizes it takes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from torch import nn

from fieldmark.errors import ImageSizeError, ModelError, UnknownModelError, hint
from fieldmark.models.classic.norms import replace_norms
from fieldmark.models.records import BackboneOptions
from fieldmark.models.timm_backbone import UNFIT_ERRORS, Classifiers, TimmBackbone
from fieldmark.models.vit.attention import make_attention_local
from fieldmark.models.vit.patches import replace_patch_embedding
from fieldmark.models.vit.token_path import has_token_path

NUM_CANDIDATES = 16


def build_timm_backbone(name: str, options: BackboneOptions) -> TimmBackbone:
    """Build the network that timm calls `name`, with random weights and the recipe's changes.

    `drop_path` and `dropout` reach the networks that have them: dropout goes into the blocks
    where there is a place for it, else before the classifier. Raises `ImageSizeError` with the
    nearest sizes that work, and `ModelError` for encoders that pool no features and for changes
    that this network cannot take.
    """
    try:
        return _build(name, options)
    except UNFIT_ERRORS as error:
        sizes = find_image_sizes(name, options.image_size)
        if options.image_size in sizes:
            raise
        raise ImageSizeError(_explain_size(name, options.image_size, sizes, error)) from error


def find_timm_size(name: str) -> int | None:
    """Return the usual image size of a timm name, px; None where timm has no such network.

    Raises `UnknownModelError` where it has the network, but not the weights behind the dot.
    """
    architecture, _, tag = name.partition(".")
    if ":" in name or not timm.is_model(architecture):
        return None
    tags = list_tags(architecture)
    if tag and tag not in tags:
        raise UnknownModelError(
            f"model.name: '{architecture}' has no weights named '{tag}'.{hint(tag, tags)} "
            f"There are: {', '.join(tags) or 'none'}."
        )
    return _default_size(name)


def list_tags(architecture: str) -> list[str]:
    """Return the names of the weights published for an architecture, timm's default first."""
    full_names = timm.list_pretrained(f"{architecture}.*")
    default = timm.get_pretrained_cfg(architecture)
    tags = [full_name.partition(".")[2] for full_name in full_names]
    return sorted(tags, key=lambda tag: default is None or tag != default.tag)


def find_image_sizes(name: str, image_size: int) -> list[int]:
    """Return sizes that the network takes, nearest to `image_size`: itself, or one each side."""
    if _fits(name, image_size):
        return [image_size]
    default_size = _default_size(name)
    step = _find_patch_px(_create(name, {"img_size": default_size})[0]) or 16
    lower = image_size - image_size % step - (step if image_size % step == 0 else 0)
    upper = image_size - image_size % step + step
    below = range(lower, max(0, lower - NUM_CANDIDATES * step), -step)
    above = range(upper, upper + NUM_CANDIDATES * step, step)
    found = (_first_fit(name, below), _first_fit(name, above))
    return [size for size in found if size is not None]


def render_timm_names() -> str:
    """Write the list that is shipped with the package, for the installed version of timm."""
    lines = [f"# timm {timm.__version__}: name, image size in px, published weights"]
    for name in timm.list_models():
        config = timm.get_pretrained_cfg(name)
        if config is not None and config.classifier is not None:
            lines.append(f"{name}\t{_default_size(name)}\t{', '.join(list_tags(name))}")
    return "\n".join(lines) + "\n"


def _default_size(name: str) -> int:
    config = timm.get_pretrained_cfg(name)
    return 224 if config is None else int(config.input_size[-1])


def _build(name: str, options: BackboneOptions) -> TimmBackbone:
    arguments: dict[str, Any] = {"img_size": options.image_size}
    if options.drop_path:
        arguments["drop_path_rate"] = options.drop_path
    if options.dropout:
        arguments["proj_drop_rate"] = options.dropout
    net, accepted = _create(name, arguments)
    if not hasattr(net, "reset_classifier"):
        raise ModelError(
            f"model.name: '{name}' is an encoder for use inside other networks and pools no "
            "features to classify. Choose a network that classifies images."
        )
    _keep_dropout_on_branches(net)
    patch_px = _find_patch_px(net)
    if patch_px is not None and options.image_size % patch_px:
        raise ValueError(f"its patches of {patch_px} px do not divide the image")
    pools_by_token = getattr(net, "global_pool", "") == "token"
    classifiers = _remove_classifiers(net)
    is_changed = _change_parts(net, options)
    if options.reads == "layers":
        _cut_behind_layers(net, name)
    backbone = TimmBackbone(
        net,
        name=name,
        image_size=options.image_size,
        classifiers=classifiers,
        takes_image_size="img_size" in accepted,
        pools_by_token=pools_by_token,
        reads=options.reads,
        is_timms_own=not is_changed,
    )
    if options.tags.tokenizer != "off":
        backbone.add_tags(options.tags, options.tag_vocabulary_size, options.tag_pad_id)
    return backbone


def _keep_dropout_on_branches(net: nn.Module) -> None:
    """Take timm's dropout between the layers of a ViT's MLP away.

    The original ViT, and Animesion after it, drop where a branch joins the residual, not within.
    """
    if has_token_path(net):
        for block in net.blocks:  # type: ignore[union-attr]
            inner = getattr(getattr(block, "mlp", None), "drop1", None)
            if isinstance(inner, nn.Dropout):
                inner.p = 0.0


def _change_parts(net: nn.Module, options: BackboneOptions) -> bool:
    """Replace patch embedding, attention and norms as asked; return whether anything changed."""
    if options.patches.kind != "plain":
        replace_patch_embedding(net, options.patches)
    if options.attention == "local":
        make_attention_local(net)
    if options.norm != "own":
        replace_norms(net, options.norm)
    return (options.patches.kind, options.attention, options.norm) != ("plain", "global", "own")


def _cut_behind_layers(net: nn.Module, name: str) -> None:
    """Remove what follows the last block or stage: last norm, last convolution, pooling."""
    if not hasattr(net, "prune_intermediate_layers"):
        raise ModelError(
            f"model.head: ifa joins layers, and timm's '{name}' gives none. Choose a Vision "
            "Transformer or a CNN with stages, or model.head=linear"
        )
    net.prune_intermediate_layers(None, prune_norm=True, prune_head=True)  # type: ignore[operator]


def _create(name: str, options: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """Create the network with those of the options that it has; timm offers no way to ask.

    Returns the network, with one class, and the options that it accepted.
    """
    options = dict(options)
    while True:
        try:
            return timm.create_model(name, pretrained=False, num_classes=1, **options), options
        except TypeError as error:
            refused = re.search(r"unexpected keyword argument\W+(?:s\W+)?(\w+)", str(error))
            if refused is None or refused[1] not in options:
                raise
            value = options.pop(refused[1])
            if refused[1] == "proj_drop_rate":
                options["drop_rate"] = value


def _remove_classifiers(net: nn.Module) -> Classifiers:
    """Take the classifying layers off and say what they were."""
    declared = net.pretrained_cfg["classifier"]  # type: ignore[index]
    names = (declared,) if isinstance(declared, str) else tuple(declared or ())
    shapes = {key: tensor.shape for key, tensor in net.state_dict().items()}
    net.reset_classifier(0)  # type: ignore[operator]
    removed = shapes.keys() - net.state_dict().keys()
    if not names or removed != {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}:
        return Classifiers(names, reads=None)
    if isinstance(net, VisionTransformerDistilled):
        return Classifiers(names, reads="prefix")
    if len(names) > 1:
        return Classifiers(names, reads=None)
    return Classifiers(names, "pooled", is_convolution=len(shapes[f"{names[0]}.weight"]) == 4)


def _find_patch_px(net: nn.Module) -> int | None:
    """Return the side of the patches that tile the image; None for any other kind of stem."""
    projection = getattr(getattr(net, "patch_embed", None), "proj", None)
    if not isinstance(projection, nn.Conv2d) or projection.in_channels != 3:
        return None
    side = projection.kernel_size[0]
    return side if projection.stride[0] == side > 1 else None


def _first_fit(name: str, sizes: Iterable[int]) -> int | None:
    return next((size for size in sizes if _fits(name, size)), None)


def _fits(name: str, image_size: int) -> bool:
    """Try a size, without memory for the weights where the network can be built so."""
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                _build(name, BackboneOptions(image_size=image_size))
            return True
        except UNFIT_ERRORS:
            continue
    return False


def _explain_size(name: str, image_size: int, sizes: list[int], error: Exception) -> str:
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    if sizes:
        text = " and ".join(f"{size} px" for size in sizes)
        choice = f"Nearest sizes that work: {text}. Set data.image_size={sizes[-1]}."
    else:
        default = _default_size(name)
        choice = f"It was made for {default} px. Set data.image_size={default}."
    return f"data.image_size: '{name}' cannot take images of {image_size} px: {reason}. {choice}"
