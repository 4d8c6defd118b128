"""`model`: the network, its patches and its tags."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from fieldmark.recipes.schema.section import Section, Share


class Patches(Section):
    """How a Vision Transformer cuts the image into tokens."""

    word_key: ClassVar[str | None] = "kind"

    kind: Literal["plain", "shifted", "rotated"] = Field(
        default="plain",
        description="plain: the patch; shifted: with four half-patch shifts of the image (SPT); "
        "rotated: with two rotations on top (RPT)",
    )
    form: Literal["auto", "published", "added"] = Field(
        default="auto",
        description="published: one layer norm and projection of all views; added: their "
        "projection is added to the plain one and starts at zero, so pretrained weights start "
        "unchanged; auto: added where weights are loaded",
    )
    angles: Literal["per_image", "per_batch", "fixed", "as_published"] = Field(
        default="per_image",
        description="drawn for each image or batch in training, the middle of the range in "
        "evaluation; fixed: always the middle; as_published: drawn per batch in evaluation too",
    )
    interpolation: Literal["nearest", "bilinear"] = Field(
        default="nearest", description="how rotated pixels are read"
    )
    fill: Literal["zeros", "reflect", "edge"] = Field(
        default="zeros", description="what rotations see outside the image; shifts see zeros"
    )


class Tags(Section):
    """Tags of an image as a second modality of a Vision Transformer."""

    word_key: ClassVar[str | None] = "tokenizer"

    tokenizer: Literal["off", "wordpiece", "whole"] = Field(
        default="off", description="wordpiece: tags in pieces of words; whole: one token per tag"
    )
    max_tokens: int = Field(
        default=32, ge=3, le=512, description="tokens per image, [CLS] and [SEP] among them"
    )
    vocabulary: str | None = Field(
        default=None,
        description="wordpiece: a tokenizer.json, a vocab.txt or a hub name; both: a run's "
        "best/tags.json; null: learned from the training split's tags",
    )
    vocabulary_size: int = Field(
        default=30522, ge=100, le=1000000, description="most entries of a learned vocabulary"
    )
    min_count: int = Field(
        default=2, ge=1, description="tags of fewer training images are unknown (whole)"
    )
    clean: bool = Field(
        default=False, description="clean tags as Animesion did (counts split off, symbols, rare)"
    )
    exclude: str | None = Field(
        default=None,
        description="clean: a text file of words, one a line; tags in which one stands are left "
        "out",
    )
    shuffle: bool = Field(
        default=False, description="another order of the tags each time in training"
    )
    hide: Share = Field(
        default=0.15,
        description="share of training images shown without their tags, so that the network also "
        "works without",
    )
    mask_padding: bool = Field(default=True, description="attention leaves padding out")
    type_embedding: bool = Field(
        default=True, description="learned vectors tell image and tag tokens apart"
    )
    dropout: Share = Field(default=0.1, description="dropout on the embedded tags")
    image: bool = Field(
        default=True, description="false: classify by the tags alone, the image is not seen"
    )
    propose: Literal["off", "bert", "full", "sigmoid"] = Field(
        default="off",
        description="also learn to fill in masked tags, so that the run can propose them; masked "
        "are with bert 15%, with full all (tags are never read then), with sigmoid first none and "
        "in the second half of training all",
    )


class Model(Section):
    """The network."""

    name: str = Field(
        default="resnet18", min_length=1, description="a catalog name or any timm name"
    )
    pretrained: bool = Field(
        default=False, description="start from the name's published weights (hub)"
    )
    weights: str | None = Field(
        default=None, description="start from this file: .safetensors, .pth or .npz"
    )
    patches: Patches = Field(default=Patches(), description="how the image becomes tokens (ViT)")
    attention: Literal["global", "local"] = Field(
        default="global",
        description="local: learned temperature, no token attends to itself (LSA, ViT)",
    )
    tags: Tags = Field(default=Tags(), description="tags as a second modality (ViT)")
    head: Literal["linear", "mlp", "ifa"] = Field(
        default="linear",
        description="what maps features to classes; ifa: joins the class tokens of all layers",
    )
    head_width: int = Field(default=512, ge=1, le=65536, description="hidden units of the mlp head")
    head_dropout: Share = Field(
        default=0.0, description="dropout in the head (mlp: before its last layer)"
    )
    head_zero_init: bool = Field(
        default=False, description="the head's last layer starts at zero: equal probabilities"
    )
    head_token_norm: bool = Field(
        default=False, description="ifa: layer norm on each layer's token before they are joined"
    )
    head_layer_softmax: bool = Field(
        default=False, description="ifa: weights of the layers are positive and sum to 1"
    )
    norm: Literal["own", "batch", "layer", "instance", "group", "weight_standardized"] = Field(
        default="own",
        description="normalisation of a CNN in place of its batch norm (weight_standardized: "
        "group norm and standardised convolutions)",
    )
    init: Literal["own", "xavier"] = Field(
        default="own", description="random start: the network's own, or Xavier-uniform everywhere"
    )
    positions: Literal["timm", "corners"] = Field(
        default="timm",
        description="how loaded position embeddings reach another grid: as timm does (bicubic, "
        "antialiased; bilinear for .npz), or linear with corners on corners as Animesion did",
    )
    freeze: Literal["none", "backbone"] = Field(default="none", description="what is not trained")
    drop_path: Share = Field(default=0.0, description="stochastic depth, where the network has it")
    dropout: Share = Field(default=0.0, description="dropout inside the backbone, where it has it")

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        if self.pretrained and self.weights:
            raise ValueError("give either pretrained: true or a weights file, not both")
        return self
