"""The recipe: everything that decides a run, as one frozen, validated tree.

Every key has a default, a one-line meaning and a range. The tree is read top-down: `Recipe` is
at the end of the file because its sections come first. Reading, overriding and explaining
faults is in `loading`; nothing here touches files.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Task = Literal["multiclass", "binary", "multilabel"]
Metric = Literal[
    "accuracy", "balanced_accuracy", "top5_accuracy", "macro_f1", "kappa", "sum", "nll"
]


class Section(BaseModel):
    """A part of the recipe: unknown keys are faults, values never change."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )

    word_key: ClassVar[str | None] = None
    """The key that is meant where one word is given for the section: `patches: rotated`."""

    @model_validator(mode="before")
    @classmethod
    def _take_word(cls, values: Any) -> Any:
        is_word = cls.word_key is not None and not isinstance(values, dict | BaseModel)
        return {cls.word_key: values} if is_word else values


class Split(Section):
    """How images are divided where the data does not say so itself."""

    ratios: tuple[Share, Share, Share] = Field(
        default=(0.7, 0.1, 0.2),
        description="shares of train, val and test (or of train and test); they sum to 1",
    )
    rule: Literal["exact", "as_published"] = Field(
        default="exact",
        description="exact: stratified by largest remainder, duplicates and groups on one side; "
        "as_published: the arithmetic of the papers (with three parts Animesion's unshuffled "
        "float rule, with two scikit-learn's stratified shuffle), duplicates ignored",
    )
    near_duplicates: bool = Field(
        default=True, description="keep pictures that look alike on one side (perceptual hash)"
    )

    @field_validator("ratios", mode="before")
    @classmethod
    def _two_parts_have_no_val(cls, ratios: object) -> object:
        is_pair = isinstance(ratios, list | tuple) and len(ratios) == 2
        return (ratios[0], 0.0, ratios[1]) if is_pair else ratios  # type: ignore[index]

    @field_validator("ratios")
    @classmethod
    def _sums_to_one(cls, ratios: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(ratios) - 1.0) > 1e-6:
            raise ValueError(
                f"the shares of train, val and test must sum to 1, not {sum(ratios):g}"
            )
        if ratios[0] <= 0.0:
            raise ValueError("the share of train must be above 0")
        return ratios


class Augment(Section):
    """Random changes to training images, each drawn from (seed, epoch, sample) alone."""

    crop: Literal["none", "random", "resized"] = Field(
        default="none",
        description="none: as in evaluation; random: resize to image_size + crop_margin_px, then "
        "cut out at a random place; resized: random area and aspect, resized (Inception crop)",
    )
    crop_margin_px: int = Field(
        default=32, ge=0, le=1024, description="extra pixels for crop: random"
    )
    crop_from: Literal["whole", "shrunk"] = Field(
        default="whole",
        description="crop: resized cuts from the whole image, or from one shrunk once so that the "
        "average crop has image_size: faster, slightly softer",
    )
    crop_scale: tuple[Share, Share] = Field(
        default=(0.35, 1.0), description="range of the area kept by crop: resized"
    )
    crop_aspect: tuple[float, float] = Field(
        default=(3 / 4, 4 / 3), description="range of width / height for crop: resized"
    )
    horizontal_flip: Share = Field(default=0.0, description="probability of a left-right flip")
    vertical_flip: Share = Field(default=0.0, description="probability of an upside-down flip")
    rotation_degrees: float = Field(
        default=0.0, ge=0.0, le=180.0, description="largest angle either way"
    )
    zoom: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="largest change of height and of width, each on its own",
    )
    color_jitter: tuple[float, float, float, float] = Field(
        default=(0.0, 0.0, 0.0, 0.0),
        description="strength of brightness, contrast, saturation and hue",
    )
    randaugment_ops: int = Field(
        default=0, ge=0, le=8, description="RandAugment: operations per image"
    )
    randaugment_magnitude: int = Field(
        default=9, ge=0, le=30, description="RandAugment: their strength"
    )
    random_erasing: Share = Field(default=0.0, description="probability of erasing a rectangle")

    @field_validator("crop_scale", "crop_aspect")
    @classmethod
    def _is_a_range(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0.0 < pair[0] <= pair[1]:
            raise ValueError(f"expected two numbers, 0 < low <= high, not {list(pair)}")
        return pair

    @field_validator("color_jitter")
    @classmethod
    def _is_a_jitter(cls, jitter: tuple[float, float, float, float]) -> tuple[float, ...]:
        if min(jitter) < 0.0 or jitter[3] > 0.5:
            raise ValueError("expected four numbers of at least 0, the last (hue) at most 0.5")
        return jitter


class Statistics(Section):
    """Channel means and standard deviations of pixels scaled to 0..1."""

    mean: tuple[float, float, float] = Field(description="per channel, red green blue")
    std: tuple[float, float, float] = Field(description="per channel, all above 0")

    @field_validator("std")
    @classmethod
    def _is_positive(cls, std: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(std) <= 0.0:
            raise ValueError(f"each standard deviation must be above 0, not {list(std)}")
        return std


class Data(Section):
    """Which images, how they are divided, and how they become tensors."""

    source: str | None = Field(default=None, description="DATA as given on the command line")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="table columns by role, e.g. {image: path, label: species}",
    )
    image_root: str | None = Field(
        default=None, description="folder that image paths are relative to"
    )
    allow_outside: bool = Field(
        default=False, description="accept image paths outside the image root"
    )
    conflicts: Literal["drop", "keep"] = Field(
        default="drop", description="pixel-identical images under different labels"
    )
    max_bad: Share = Field(
        default=0.05, description="share of unreadable images at which the run stops"
    )
    min_images: int = Field(
        default=2, ge=1, description="classes with fewer images are dropped and named"
    )
    split: Split = Field(default=Split(), description="how images are divided")
    image_size: int = Field(
        default=224, ge=8, le=4096, description="side of the network's input, px"
    )
    resize: Literal["squash", "shorter", "pad"] = Field(
        default="squash",
        description="squash: both sides to image_size; shorter: the shorter side to "
        "image_size / crop, then the centre; pad: the longer side, filled up with white",
    )
    crop: float = Field(
        default=1.0, gt=0.1, le=1.0, description="share of each side that evaluation keeps (centre)"
    )
    augment: Augment = Field(default=Augment(), description="training images only")
    normalize: Literal["model", "half", "imagenet", "dataset", "none"] | Statistics = Field(
        default="model",
        description="pixel statistics: those the weights were made with, 0.5, ImageNet's, the "
        "training split's own, none, or {mean: [...], std: [...]}",
    )


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


class Optim(Section):
    """The optimizer and its schedule."""

    name: Literal["sgd", "adam", "adamw"] = Field(default="adamw", description="update rule")
    lr: float = Field(default=1e-3, gt=0.0, le=100.0, description="peak learning rate")
    weight_decay: float = Field(
        default=0.05, ge=0.0, le=10.0, description="adam: L2; adamw: decoupled"
    )
    decay_all: bool = Field(
        default=False, description="weight decay on biases, norms and single vectors too"
    )
    eps: float = Field(default=1e-8, gt=0.0, lt=1.0, description="adam, adamw: added to the root")
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0, description="sgd's momentum; adam's beta1")
    batch_size: int = Field(default=32, ge=1, le=65536, description="images per step and process")
    accumulate: int = Field(default=1, ge=1, le=1024, description="batches per update")
    clip_norm: float | None = Field(
        default=None, gt=0.0, description="largest gradient norm; null: any"
    )
    epochs: int = Field(default=10, ge=0, le=100000, description="0 keeps the weights as loaded")
    max_updates: int = Field(
        default=0,
        ge=0,
        description="end after so many updates, mid-epoch if need be, in place of epochs; 0: off",
    )
    warmup: float = Field(
        default=0.0, ge=0.0, description="below 1: share of all updates; from 1: number of updates"
    )
    schedule: Literal["constant", "cosine", "step", "plateau", "constant_epoch"] = Field(
        default="cosine",
        description="step: times decay every decay_epochs; constant_epoch: times decay at 40% and "
        "80% of the epochs; plateau: times decay after patience epochs without a lower val loss",
    )
    decay: float = Field(
        default=1 / 3, gt=0.0, lt=1.0, description="factor of step, plateau, constant_epoch"
    )
    decay_epochs: int = Field(default=10, ge=1, description="interval of schedule: step")
    patience: int = Field(default=5, ge=0, description="epochs that schedule: plateau waits")
    layer_decay: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="learning rate of each block relative to the next one",
    )


class Distill(Section):
    """A second network whose answers are learned from."""

    word_key: ClassVar[str | None] = "teacher"

    teacher: str | None = Field(
        default=None,
        description="a run's folder, or a timm name with published weights for the same classes",
    )
    mode: Literal["hard", "soft"] = Field(
        default="hard", description="hard: the teacher's first class; soft: its probabilities"
    )
    alpha: Share = Field(default=0.5, description="share of the loss that the teacher gives")
    tau: float = Field(
        default=1.0, gt=0.0, le=100.0, description="soft: temperature of both networks"
    )
    view: Literal["same", "plain"] = Field(
        default="same",
        description="what the teacher sees: the student's augmented image, or the plain one (its "
        "answers are then computed once)",
    )


class Loss(Section):
    """What training minimises."""

    label_smoothing: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="mass spread over all classes"
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="balanced: each class weighs images / (classes x its images)"
    )
    focal: float = Field(
        default=0.0, ge=0.0, le=10.0, description="focusing exponent gamma; 0: off"
    )
    logit_adjustment: float = Field(
        default=0.0,
        ge=0.0,
        le=10.0,
        description="tau times log prior added to logits in training; 0: off",
    )
    mixup: float = Field(default=0.0, ge=0.0, le=10.0, description="alpha of mixup; 0: off")
    cutmix: float = Field(default=0.0, ge=0.0, le=10.0, description="alpha of cutmix; 0: off")
    distill: Distill = Field(default=Distill(), description="learning from a teacher")
    exclusion: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="reward for class tokens that differ between layers (ifa; Animesion 0.01)",
    )
    exclusion_distance: int = Field(default=2, ge=1, le=64, description="layers between the two")
    exclusion_tau: float = Field(default=1.0, gt=0.0, le=100.0, description="their temperature")


class Recipe(Section):
    """One training run, completely."""

    description: str = Field(default="", description="one line for people")
    task: Task = Field(
        default="multiclass", description="one label of many, of two, or any number of labels"
    )
    data: Data = Field(default=Data(), description="images")
    model: Model = Field(default=Model(), description="network")
    optim: Optim = Field(default=Optim(), description="optimizer")
    loss: Loss = Field(default=Loss(), description="loss")
    sampling: Literal["natural", "balanced"] = Field(
        default="natural", description="balanced: every class equally often in an epoch"
    )
    ema: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="decay of the averaged weights that are evaluated; 0: off",
    )
    select: Metric = Field(default="accuracy", description="val metric that picks the best epoch")
    early_stop: int = Field(
        default=0, ge=0, description="stop after so many epochs without a better one; 0: never"
    )
    seed: int = Field(
        default=0, ge=0, lt=2**32, description="decides split, order, augmentation and start"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, mps")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="auto: bf16 where the hardware computes in it, else fp32"
    )
    compile: bool = Field(
        default=False,
        description="compile the network to code of its own (minutes; pays on long runs only)",
    )
    workers: int = Field(
        default=-1, ge=-1, le=256, description="loader processes; -1: by the machine"
    )
    cache: str = Field(
        default="auto",
        min_length=1,
        description="where decoded images and stored features are kept: a folder (shared by "
        "runs), auto (the run's folder; images while it trains, if they are small), or off (no "
        "images; features in the run's folder). Images so kept change no bit of what is learned",
    )
    views: int = Field(
        default=2,
        ge=0,
        le=1000,
        description="frozen backbone: it runs once over so many views of a training image (plain, "
        "then flips, then draws of the augmentation), the head trains on stored features; 0: it "
        "runs in each epoch",
    )
    checkpoint_minutes: float = Field(
        default=10.0,
        ge=0.0,
        description="checkpoint within an epoch after so long; 0: every update",
    )
