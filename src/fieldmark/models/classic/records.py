"""Records of the lecture's networks, of the leaf study's VGG-16 and of CIFAR-10's ResNets."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from fieldmark.models.records import BackboneOptions, ModelRecord

if TYPE_CHECKING:
    from fieldmark.models.backbones import Backbone
    from fieldmark.models.heads import Head

OWN_DROPOUT = 0.5
"""Of AlexNet's and VGG's wide layers; a recipe's dropout above 0 takes its place."""


def _build_lecture_net(options: BackboneOptions) -> Backbone:
    from fieldmark.models.classic.lecture_net import LectureNet

    return _finish(LectureNet(image_size=options.image_size, reads=options.reads), options)


def _build_alexnet(options: BackboneOptions) -> Backbone:
    from fieldmark.models.classic.alexnet import build_alexnet

    dropout = options.dropout or OWN_DROPOUT
    net = build_alexnet(image_size=options.image_size, dropout=dropout, reads=options.reads)
    return _finish(net, options)


def _build_vgg(name: str, options: BackboneOptions) -> Backbone:
    from fieldmark.models.classic.vgg import build_vgg

    dropout = options.dropout or OWN_DROPOUT
    net = build_vgg(name, image_size=options.image_size, dropout=dropout, reads=options.reads)
    return _finish(net, options)


def _build_wide_head(width: int, num_classes: int, dropout: float) -> Head:
    from fieldmark.models.classic.wide_head import WideLinearHead

    return WideLinearHead(width, num_classes, dropout=dropout or OWN_DROPOUT)


def _build_cifar_resnet(
    name: str, num_blocks: int, shortcut: Literal["A", "B"], options: BackboneOptions
) -> Backbone:
    from fieldmark.models.classic.resnet_cifar import CifarResNet

    net = CifarResNet(
        name=name, num_blocks=num_blocks, image_size=options.image_size, shortcut=shortcut
    )
    return _finish(net, options)


def _build_se_resnet(
    name: str, num_blocks: tuple[int, int, int, int], options: BackboneOptions
) -> Backbone:
    from fieldmark.models.classic.se_resnet import SeResNet

    net = SeResNet(
        name=name,
        num_blocks=num_blocks,
        image_size=options.image_size,
        drop_path=options.drop_path,
        dropout=options.dropout,
    )
    return _finish(net, options)


def _build_timm(timm_name: str, options: BackboneOptions) -> Backbone:
    from fieldmark.models.timm_zoo import build_timm_backbone

    return build_timm_backbone(timm_name, options)


def _finish(net: Backbone, options: BackboneOptions) -> Backbone:
    from fieldmark.models.classic.stages import apply_cnn_options

    return apply_cnn_options(net, options)


def _record_vgg(letter: str, layers: str) -> ModelRecord:
    name = f"vgg-{letter}"
    return ModelRecord(
        name=name,
        source="Simonyan, Zisserman 2015",
        description=f"{layers}; from 32 px",
        image_size=224,
        build_backbone=partial(_build_vgg, name),
    )


def _record_cifar_resnet(num_blocks: int, shortcut: Literal["A", "B"] = "A") -> ModelRecord:
    depth = 6 * num_blocks + 2
    name = f"resnet{depth}-cifar" + ("-b" if shortcut == "B" else "")
    kind = "zero-padded" if shortcut == "A" else "projected"
    return ModelRecord(
        name=name,
        source="He et al. 2016, section 4.2",
        description=f"{depth} layers of 16 to 64 channels for 32 px, {kind} shortcuts",
        image_size=32,
        build_backbone=partial(_build_cifar_resnet, name, num_blocks, shortcut),
    )


def _record_se_resnet(depth: int, num_blocks: tuple[int, int, int, int] | None) -> ModelRecord:
    """Without `num_blocks` it is timm's network."""
    name, timm_name = f"se-resnet{depth}", f"seresnet{depth}"
    return ModelRecord(
        name=name,
        source="Hu et al. 2019",
        description=f"ResNet-{depth} with squeeze and excitation, reduction 16"
        + ("" if num_blocks else f"; timm's {timm_name}"),
        image_size=224,
        build_backbone=partial(_build_se_resnet, name, num_blocks)
        if num_blocks
        else partial(_build_timm, timm_name),
    )


CLASSIC_RECORDS: tuple[ModelRecord, ...] = (
    ModelRecord(
        name="lecture-net",
        source="lecture",
        description="LeNet-like, 2 convolutions and 3 linear layers, for 32 px; from 16 px",
        image_size=32,
        build_backbone=_build_lecture_net,
    ),
    ModelRecord(
        name="alexnet",
        source="Krizhevsky et al. 2012",
        description="5 convolutions and 3 linear layers, as torchvision has it; from 63 px",
        image_size=224,
        build_backbone=_build_alexnet,
    ),
    _record_vgg("a", "11 layers, torchvision's vgg11"),
    _record_vgg("a-lrn", "11 layers, local response normalisation behind the first"),
    _record_vgg("b", "13 layers, torchvision's vgg13"),
    _record_vgg("c", "16 layers, three of them 1 x 1 convolutions"),
    _record_vgg("d", "16 layers, torchvision's vgg16"),
    _record_vgg("e", "19 layers, torchvision's vgg19"),
    ModelRecord(
        name="leaf-vgg16",
        source="leaf study",
        description="VGG-16's convolutions (freeze them: model.freeze=backbone), head 4096 wide; "
        "from 32 px",
        image_size=224,
        build_backbone=partial(_build_vgg, "leaf-vgg16"),
        build_linear_head=_build_wide_head,
    ),
    _record_cifar_resnet(3),
    _record_cifar_resnet(5),
    _record_cifar_resnet(7),
    _record_cifar_resnet(9),
    _record_cifar_resnet(9, "B"),
    _record_se_resnet(18, (2, 2, 2, 2)),
    _record_se_resnet(34, (3, 4, 6, 3)),
    _record_se_resnet(50, None),
    _record_se_resnet(101, None),
    _record_se_resnet(152, None),
)
