from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

import fieldmark as fm
from fieldmark.cli import main
from fieldmark.errors import ExportError
from fieldmark.exporting import backends, building
from fieldmark.exporting.backends import choose_backend
from fieldmark.exporting.building import build_eager, fold_norms
from fieldmark.exporting.trials import Trials
from fieldmark.runs.predictor import load_predictor


def opened(path):
    run = fm.load_run(path)
    return load_predictor(run.folder), run.select_images("test")


def choose(path, wanted: str, bound: float = 1e-3):
    return choose_backend(*opened(path), wanted, bound=bound)


class Exactly(torch.nn.Module):
    """A classifier that is a function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.forward = function


def test_small_tables_stay_with_eager(save_run) -> None:
    choice = choose(save_run(name="test_vit"), "auto")
    assert choice.backend is None
    assert choice.sentence == "computed by eager: for 9 images a calibration does not pay"


def test_auto_takes_the_fastest_that_agrees(save_run, monkeypatch) -> None:
    path = save_run(name="test_vit")
    predictor, table = opened(path)
    network = predictor.classifier
    speeds = {"eager": 4.0, "bf16": 1.0, "compiled": 3.0, "onnxruntime": 2.0}
    ways = {
        "bf16": lambda images, tags: -network(images, tags),
        "compiled": lambda images, tags: network(images, tags),
        "onnxruntime": lambda images, tags: network(images, tags) * (1 + 1e-6),
    }
    built = {name: lambda _, name=name: ways[name] for name in ways}
    monkeypatch.setattr(backends, "_BUILDERS", built)
    monkeypatch.setattr(backends, "FEWEST_IMAGES", 1)
    monkeypatch.setattr(backends, "_SETUP_SECONDS", dict.fromkeys(ways, 0.0))
    monkeypatch.setattr(backends, "_computes_bf16", lambda device: True)
    monkeypatch.setattr(backends, "has_onnxruntime", lambda: True)
    names = {id(way): name for name, way in ways.items()}
    monkeypatch.setattr(Trials, "_time", lambda self, way: speeds[names.get(id(way), "eager")])
    choice = choose_backend(predictor, table, "auto", bound=1e-3)
    assert choice.name == "onnxruntime"
    assert choice.backend is ways["onnxruntime"]
    assert [trial.agrees for trial in choice.trials] == [True, False, True, True]
    assert "at most 0.001" in choice.sentence and "bf16 1.0 ms (off by" in choice.sentence
    assert json.dumps(choice.to_json())


def test_what_a_rough_way_is_unsure_of_is_computed_again(save_run, monkeypatch) -> None:
    path = save_run(name="test_vit")
    predictor, table = opened(path)
    network = predictor.classifier
    asked = []

    def rough(images, tags):
        """Sure of every second image, and right there alone."""
        logits = 20 * torch.nn.functional.one_hot(network(images, tags).argmax(1), 3).float()
        logits[::2] = 0.1 * torch.roll(logits[::2], 1, dims=1)
        return logits

    def exact(images, tags):
        asked.append(len(images))
        return 20 * torch.nn.functional.one_hot(network(images, tags).argmax(1), 3).float()

    monkeypatch.setattr("fieldmark.exporting.trials.build_eager", lambda _: exact)
    monkeypatch.setattr(Trials, "_time", lambda self, way: 1.0 if way is rough else 8.0)
    monkeypatch.setattr(backends, "_BUILDERS", {"bf16": lambda _: rough})
    monkeypatch.setattr(backends, "FEWEST_IMAGES", 1)
    monkeypatch.setattr(backends, "_SETUP_SECONDS", {"bf16": 0.0})
    monkeypatch.setattr(backends, "_computes_bf16", lambda device: True)
    predictor = replace(predictor, classifier=Exactly(exact))
    choice = choose_backend(predictor, table, "auto", bound=1e-3)
    assert choice.name == "bf16+eager"
    again = (len(table) + 1) // 2 / len(table)
    assert choice.trials[-1].milliseconds == pytest.approx(1.0 + again * 8.0)
    told = f"of what bf16 is not sure, about {again:.0%}, eager computes again"
    assert told in choice.sentence
    assert json.loads(json.dumps(choice.to_json()))["trials"][-1]["computed_again"] == round(
        again, 3
    )
    images = torch.randn(6, 3, 32, 32)
    asked.clear()
    torch.testing.assert_close(choice.backend(images, None), exact(images, None))
    assert asked[0] == 4  # three, filled up


def test_what_is_not_a_number_never_agrees(save_run, monkeypatch) -> None:
    predictor, table = opened(save_run(name="test_vit"))

    def broken(images, tags):
        return torch.full((len(images), 3), torch.nan)

    def first_class(images, tags):
        """As `argmax` reads what is not a number."""
        return torch.tensor([9.0, 0.0, 0.0]).expand(len(images), 3)

    monkeypatch.setattr("fieldmark.exporting.trials.build_eager", lambda _: first_class)
    monkeypatch.setattr(Trials, "_time", lambda self, way: 1.0 if way is broken else 8.0)
    monkeypatch.setattr(backends, "_BUILDERS", {"bf16": lambda _: broken})
    monkeypatch.setattr(backends, "FEWEST_IMAGES", 1)
    monkeypatch.setattr(backends, "_SETUP_SECONDS", {"bf16": 0.0})
    monkeypatch.setattr(backends, "_computes_bf16", lambda device: True)
    predictor = replace(predictor, classifier=Exactly(first_class))
    choice = choose_backend(predictor, table, "auto", bound=0.5)
    assert choice.name == "eager"
    assert choice.trials[1].max_difference == 1.0


def test_auto_tries_nothing_that_takes_longer_than_it_saves(save_run, monkeypatch) -> None:
    monkeypatch.setattr(backends, "FEWEST_IMAGES", 1)
    choice = choose(save_run(name="test_vit"), "auto")
    assert choice.name == "eager"
    assert "are too little to try others" in choice.sentence


def test_a_way_that_fails_is_noted_and_left(save_run, monkeypatch) -> None:
    def fail(_):
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setattr(backends, "_BUILDERS", {"bf16": fail})
    monkeypatch.setattr(backends, "FEWEST_IMAGES", 1)
    monkeypatch.setattr(backends, "_SETUP_SECONDS", {"bf16": 0.0})
    monkeypatch.setattr(backends, "_computes_bf16", lambda device: True)
    path = save_run(name="test_vit")
    choice = choose(path, "auto")
    assert choice.name == "eager"
    assert choice.to_json()["trials"][1] == {"name": "bf16", "fault": "no such kernel"}
    with pytest.raises(ExportError, match="--backend bf16: cannot compute this network here: no"):
        choose(path, "bf16")


@pytest.mark.parametrize("name", ["resnet10t", "test_vit", "resnet20-cifar"])
def test_bf16_is_near_eager(name, save_run) -> None:
    choice = choose(save_run(name=name), "bf16")
    trial = choice.trials[-1]
    assert trial.name == "bf16" and 0 < trial.max_difference < 0.05
    assert "as asked" in choice.sentence


def test_openvino_is_within_the_bound_of_evaluation(cnn) -> None:
    pytest.importorskip("openvino")
    trial = choose(cnn.run.path, "openvino").trials[-1]
    assert trial.agrees and trial.max_difference < 1e-4


@pytest.mark.parametrize(
    "model",
    [
        {"name": "test_vit", "patches": "shifted", "head": "mlp"},
        {"name": "test_vit", "patches": "rotated", "head": "ifa"},
        {"name": "resnet20-cifar"},
        {"name": "cnn-baseline", "image_size": 107},
    ],
    ids=str,
)
def test_openvino_reads_every_kind_of_network_at_any_batch(model, save_run) -> None:
    pytest.importorskip("openvino")
    predictor, _ = opened(save_run(**model))
    side = model.get("image_size", 32)
    exact, rough = building.build_openvino(predictor), building.build_openvino_bf16(predictor)
    for size in (1, 3):
        images = torch.randn(size, 3, side, side)
        with torch.inference_mode():
            expected = predictor.classifier(images).softmax(dim=1)
        torch.testing.assert_close(exact(images, None).softmax(dim=1), expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(rough(images, None).softmax(dim=1), expected, atol=0.1, rtol=0)


def test_auto_does_not_try_what_must_be_behind(save_run, monkeypatch) -> None:
    path = save_run(name="test_vit")
    predictor, table = opened(path)
    network = predictor.classifier
    tried = []

    def build(name):
        tried.append(name)
        return lambda images, tags: network(images, tags)

    names = ("openvino-bf16", "bf16", "openvino", "onnxruntime")
    built = {name: lambda _, name=name: build(name) for name in names}
    monkeypatch.setattr(backends, "_BUILDERS", built)
    monkeypatch.setattr(backends, "FEWEST_IMAGES", 1)
    monkeypatch.setattr(backends, "_SETUP_SECONDS", dict.fromkeys(names, 0.0))
    monkeypatch.setattr(backends, "_computes_bf16", lambda device: True)
    monkeypatch.setattr(backends, "has_onnxruntime", lambda: True)
    monkeypatch.setattr(backends, "has_openvino", lambda: True)
    choose_backend(predictor, table, "auto", bound=1e-3)
    assert tried == ["openvino-bf16"]
    monkeypatch.setattr(backends, "_computes_bf16", lambda device: False)
    tried.clear()
    choose_backend(predictor, table, "auto", bound=1e-3)
    assert tried == ["openvino"]
    monkeypatch.setattr(backends, "has_openvino", lambda: False)
    tried.clear()
    choose_backend(predictor, table, "auto", bound=1e-3)
    assert tried == ["onnxruntime"]


def test_a_backend_gives_the_same_metrics(cnn, capsys) -> None:
    path = cnn.run.path
    scores = {}
    for backend in ("eager", "onnxruntime"):
        main(["evaluate", str(path), "--backend", backend, "--json", "--quiet"])
        scores[backend] = json.loads(capsys.readouterr().out)
        assert scores[backend]["backend"]["name"] == backend
    assert scores["onnxruntime"]["metrics"] == pytest.approx(scores["eager"]["metrics"], abs=1e-4)


def test_an_unknown_backend_is_refused(save_run) -> None:
    with pytest.raises(ExportError, match=r"--backend openvin: .* Did you mean 'openvino'\?"):
        choose(save_run(name="test_vit"), "openvin")


def test_norms_are_folded_without_changing_the_answer(save_run) -> None:
    predictor, _ = opened(save_run(name="resnet10t"))
    images = torch.randn(4, 3, 32, 32)
    folded = copy.deepcopy(predictor.classifier)
    assert fold_norms(folded, images) > 10
    with torch.inference_mode():
        expected = predictor.classifier(images)
        torch.testing.assert_close(folded(images), expected, atol=1e-4, rtol=1e-4)


def test_linear_layers_of_onednn_are_those_of_torch(save_run, monkeypatch) -> None:
    predictor, _ = opened(save_run(name="test_vit", head="mlp"))
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no such operator")
    monkeypatch.setattr(building, "onednn_linear_pays", lambda: True)
    swapped = build_eager(predictor)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = predictor.classifier(images)
        torch.testing.assert_close(swapped(images, None), expected, atol=1e-4, rtol=1e-4)


def test_onednn_is_left_where_torch_has_it_not(monkeypatch) -> None:
    def gone(*_: object) -> torch.Tensor:
        raise RuntimeError("unknown operator")

    monkeypatch.setattr(building, "_onednn_linear", gone)
    assert building._measure_onednn() is False
