"""Networks with weights set by hand, and runs made without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fieldmark.data.prepare import hash_table
from fieldmark.data.samples import draw_sample
from fieldmark.data.sources import read_table
from fieldmark.data.tags import build_tag_vocabulary
from fieldmark.inspection.pictures import Picture
from fieldmark.inspection.subject import Subject
from fieldmark.models.classic.stages import read_stages
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.features import Features
from fieldmark.models.heads import LinearHead
from fieldmark.recipes.schema import Data, Model, Recipe, Statistics
from fieldmark.runs.best import Identity, save_best
from fieldmark.runs.folder import RunFolder
from fieldmark.runs.predictor import Predictor
from fieldmark.runs.tables import save_table
from fieldmark.seeds import derive_seed
from fieldmark.transforms import build_eval_transform, build_transform_record

HALF = Statistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
NAMES = ("ash", "beech", "cedar")


@pytest.fixture(autouse=True)
def coarse_png(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing fine figures is most of the time that they take."""
    monkeypatch.setattr("fieldmark.runs.figures.PNG_DPI", 30)


@pytest.fixture(scope="session")
def inspected() -> SimpleNamespace:
    """The functions below, which tests cannot import from here."""
    return SimpleNamespace(
        RedNet=RedNet,
        build=build,
        build_reading_vit=build_reading_vit,
        draw_square=draw_square,
        find_overlap=find_overlap,
        make_run=make_run,
        make_subject=make_subject,
        picture_of=picture_of,
        red_classifier=red_classifier,
        record_of=record_of,
    )


class RedNet(nn.Module):
    """A CNN of one filter: how much more than grey the red of each pixel is, then the mean."""

    name = "red-net"
    width, num_layers, layer_widths, stride = 1, 1, (1,), 1
    statistics, interpolation = HALF, "bilinear"

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        self.conv.weight.data[:] = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(
        self, images: Tensor, tags: Tensor | None = None, *, with_layers: bool = False
    ) -> Features:
        return read_stages([self.act(self.conv(images))], with_layers=with_layers)


def red_classifier(image_size: int) -> Classifier:
    """Class 1 of two speaks for red."""
    head = LinearHead(1, 2)
    head.weight.data[:] = torch.tensor([[0.0], [30.0]])
    head.bias.data[:] = torch.tensor([3.0, 0.0])
    return Classifier(RedNet(image_size), head).eval()


def build(name: str, image_size: int, **model: object) -> Classifier:
    """A network of the catalog with random weights, in evaluation mode, for three classes."""
    torch.manual_seed(derive_seed("inspected"))
    section = Model(name=name, **model)
    size = 0 if section.tags.tokenizer == "off" else 9
    classifier, _ = build_classifier(
        section, num_classes=len(NAMES), image_size=image_size, tag_vocabulary_size=size
    )
    return classifier.eval()


def build_reading_vit(head: str = "linear", sharpness: float = 0.0) -> Classifier:
    """A ViT of 8 x 8 patches whose class token reads how red the patches are; class 1 is red.

    A patch's token is (redness, -redness, 0, ...), the class token (0, 0, 1, -1, 0, ...). Every
    token attends by softmax(sharpness * first number of the normed token); values are that number,
    and land in the class token's fifth. The MLPs are zero.
    """
    classifier = build("test_vit", 128, head=head)
    net, width = classifier.backbone.net, classifier.backbone.width
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "norm" not in name and ".ls" not in name:
                parameter.zero_()
        red = net.patch_embed.proj.weight  # (D, 3, 16, 16)
        red[0, 0], red[1, 0] = 1 / 256, -1 / 256
        net.cls_token[..., 2], net.cls_token[..., 3] = 1.0, -1.0
        for block in net.blocks:
            attention = block.attn
            head_width, scale = attention.head_dim, attention.scale
            for index in range(attention.num_heads):
                first = index * head_width
                attention.qkv.bias[first] = 1.0  # every query asks for the same
                attention.qkv.weight[width + first, 0] = sharpness / scale
                attention.qkv.weight[2 * width + first, 0] = 1.0
            attention.proj.weight[4, 0] = 1.0
    output = classifier.head.last_layers[0]
    with torch.no_grad():
        output.weight.zero_()
        output.bias.zero_()
        output.weight[1, 4] = 1.0
        if head == "ifa":
            classifier.head.join.weight.fill_(1 / classifier.backbone.num_layers)
            net.cls_token[..., 4] = 20.0  # the head's ReLU lets only what is positive through
    return classifier


def draw_square(size: int, rows: slice, columns: slice) -> np.ndarray:
    """(H, W, 3) uint8: a red square on black."""
    image = np.zeros((size, size, 3), dtype=np.uint8)
    image[rows, columns, 0] = 255
    return image


def picture_of(image: np.ndarray, tag_ids: Tensor | None = None) -> Picture:
    """As `HALF` normalises it."""
    pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    return Picture("square.png", "test", "red", (pixels - 0.5) / 0.5, image, tag_ids)


def find_overlap(values: np.ndarray, rows: slice, columns: slice) -> float:
    """Intersection over union of a square and where a map is above half of its maximum."""
    found = values > values.max() / 2
    planted = np.zeros_like(found)
    planted[rows, columns] = True
    return float((found & planted).sum() / (found | planted).sum())


def record_of(image_size: int):
    return build_transform_record(
        Data(image_size=image_size, resize="squash"),
        model_statistics=HALF,
        dataset_statistics=lambda: HALF,
        interpolation="bilinear",
    )


def make_subject(path: Path, classifier: Classifier, images: Sequence[str] = ()) -> Subject:
    """A subject without images of its own."""
    folder = RunFolder(path)
    folder.split_path.parent.mkdir(parents=True, exist_ok=True)
    folder.split_path.write_text("image,label,split,content_hash\n")
    count = classifier.head.num_classes
    predictor = Predictor(
        classifier,
        "multiclass",
        NAMES[:count],
        build_eval_transform(record_of(classifier.backbone.image_size)),
    )
    return Subject(folder, predictor, None, tuple(images))


def make_run(path: Path, *, name: str = "test_vit", image_size: int = 32, **model: object) -> Path:
    """A run folder as training leaves it, of drawn characters, with the weights it began with."""
    faces = path.parent / f"{path.name}-faces"
    source = save_table(draw_sample("characters", num_images=12, num_classes=3), faces)
    table = read_table(source)
    splits = ["train" if place % 3 else "test" for place in range(len(table))]
    rows = [replace(r, split=s) for r, s in zip(table.rows, splits, strict=True)]
    table = table.with_rows(rows)
    section = Model(name=name, **model)
    has_tags = section.tags.tokenizer != "off"
    vocabulary = (
        build_tag_vocabulary(section.tags, [r.tags or () for r in rows]) if has_tags else None
    )
    torch.manual_seed(derive_seed("inspected"))
    classifier, _ = build_classifier(
        section,
        num_classes=len(table.class_names),
        image_size=image_size,
        tag_vocabulary_size=vocabulary.size if vocabulary else 0,
    )
    folder = RunFolder.create(path)
    folder.save_recipe(Recipe(data=Data(source=str(source), image_size=image_size), model=section))
    folder.save_classes(table)
    folder.save_split(table, hash_table(table))
    identity = Identity("multiclass", table.class_names, section, record_of(image_size), vocabulary)
    save_best(folder.best_dir, classifier, identity, {"epoch": 0})
    return path


@pytest.fixture
def photograph(tmp_path: Path) -> str:
    """A file of another size than any network takes."""
    path = tmp_path / "leaf.png"
    Image.new("RGB", (50, 31), "teal").save(path)
    return str(path)
