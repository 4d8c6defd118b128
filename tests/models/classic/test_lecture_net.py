from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from fieldmark.models.classic.lecture_net import LectureNet
from fieldmark.models.classifier import build_classifier
from fieldmark.models.heads import LinearHead
from fieldmark.models.weights.loading import load_weights
from fieldmark.recipes.schema import Model


def test_layers_have_the_parameters_of_the_lecture() -> None:
    parts = [*LectureNet(image_size=32).children(), LinearHead(84, 10)]
    counts = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert counts == [456, 2_416, 48_120, 10_164, 850]


def test_it_computes_what_the_lecture_writes() -> None:
    net, pool = LectureNet(image_size=32), nn.MaxPool2d(2, 2)
    images = torch.randn(2, 3, 32, 32)
    x = pool(functional.relu(net.conv1(images)))
    x = pool(functional.relu(net.conv2(x)))
    assert x.shape == (2, 16, 5, 5)
    features = net(images, with_layers=True)
    assert torch.equal(features.tokens, x.flatten(2).transpose(1, 2))
    x = functional.relu(net.fc1(torch.flatten(x, 1)))
    assert torch.equal(features.pooled, functional.relu(net.fc2(x)))
    assert features.layers is not None and features.layers.shape == (2, 16, 2)


def test_other_sizes_change_the_first_wide_layer_alone() -> None:
    net = LectureNet(image_size=64)
    assert net.fc1.in_features == 16 * 13 * 13
    assert net(torch.zeros(1, 3, 64, 64)).pooled.shape == (1, 84)


def test_without_wide_layers_it_ends_in_its_last_map() -> None:
    net = LectureNet(image_size=32, reads="layers")
    assert [name for name, _ in net.named_children()] == ["conv1", "conv2"]
    assert net(torch.zeros(1, 3, 32, 32)).pooled.shape == (1, net.width) == (1, 16)


def test_file_of_the_lectures_network_loads_with_its_last_layer(tmp_path: Path) -> None:
    classifier, _ = build_classifier(Model(name="lecture-net"), num_classes=10, image_size=32)
    theirs = LectureNet(image_size=32)
    theirs.fc3 = nn.Linear(84, 10)
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    report = load_weights(classifier, tmp_path / "net.pth")
    assert report.is_head_kept and not report.missing and not report.skipped
    images = torch.randn(2, 3, 32, 32)
    expected = theirs.fc3(theirs(images).pooled)
    assert torch.equal(classifier.eval()(images), expected)
