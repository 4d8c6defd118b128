from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from rich.console import Console
from torch import nn

import fieldmark as fm
from fieldmark.cli import main
from fieldmark.cli.export import _as_table
from fieldmark.errors import ExportError
from fieldmark.exporting import onnx_export, processor
from fieldmark.exporting.artifact import open_artifact, probabilities
from fieldmark.models.probabilities import log_probabilities
from fieldmark.runs.predictor import load_predictor
from fieldmark.verbs.exporting import export

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

NETWORKS = {
    "shifted patches, mlp head": {"name": "test_vit", "patches": "shifted", "head": "mlp"},
    "rotated patches, ifa head": {"name": "test_vit", "patches": "rotated", "head": "ifa"},
    "resnet-cifar": {"name": "resnet20-cifar"},
    "cnn-baseline": {"name": "cnn-baseline", "image_size": 107},
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_graph_says_what_the_network_says(kind, save_run, cnn, tmp_path) -> None:
    predictor = fm.load_run(save_run(**NETWORKS[kind])).predictor()
    transform = predictor.transform.preparation.record.to_json()
    record = replace(open_artifact(cnn.made.file).record, transform=transform)
    onnx_export.export_onnx(predictor.classifier, record, tmp_path / "model.onnx")
    artifact = open_artifact(tmp_path / "model.onnx", threads=1)
    side = artifact.preprocessing.image_size
    for size in (1, 3):  # the batch is free
        images = torch.randn(size, 3, side, side)
        with torch.inference_mode():
            expected = predictor.classifier(images).softmax(dim=1).numpy()
        found = probabilities(artifact(images.numpy()), "multiclass")
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_export_ends_with_its_proof(cnn) -> None:
    parity = cnn.made.parity
    assert parity.passed and parity.bound == "no probability off by more than 0.0001"
    assert (parity.num_images, parity.images_from) == (18, "test and val")
    assert "18 images are fewer than the 200" in parity.notes[0]
    judged = parity.runtimes[0]
    assert judged.name == "onnxruntime" and judged.agreement.top1 == 1.0
    assert judged.agreement.before == judged.agreement.after == 1.0
    written = json.loads((cnn.made.folder / "parity.json").read_text())
    assert written["max_probability_difference"] == judged.agreement.max_difference <= 1e-4
    assert written["speed_ratio"].keys() == {"1", "16"}


def test_the_file_holds_all_that_prediction_needs(cnn) -> None:
    record = open_artifact(cnn.made.file).record
    assert record.class_names == cnn.run.class_names == ("amber", "blue", "green")
    assert (record.task, record.opset, record.threshold) == ("multiclass", 20, None)
    assert record.transform == cnn.run.predictor().transform.preparation.record.to_json()
    assert record.version == fm.__version__
    model = pytest.importorskip("onnx").load(cnn.made.file)
    assert model.opset_import[0].version == 20
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    names = [node.name for node in model.graph.node]
    assert {"backbone.conv1.1/Conv", "backbone.act1/Relu"} <= set(names)
    told = "".join(node.doc_string for node in model.graph.node)
    assert ".py" not in f"{told}{model.metadata_props}"


@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel"])
def test_probabilities_in_numpy_are_those_of_the_run(task) -> None:
    logits = torch.randn(5, 1 if task == "binary" else 4) * 60
    expected = log_probabilities(logits, task).exp().numpy()
    np.testing.assert_allclose(probabilities(logits.numpy(), task), expected, atol=1e-6)


def test_predict_from_an_artifact_answers_as_the_run(cnn, pictures, answer) -> None:
    path = cnn.run.path
    images = [pictures.parent / "2.png", pictures.parent / "gone.png", pictures.parent / "0.png"]
    by_run = answer("predict", path, *images, "--top", 2)["predictions"]
    for artifact in (cnn.made.file, cnn.made.folder):
        by_file = answer("predict", artifact, *images, "--top", 2)
        assert by_file["backend"]["name"] == "artifact"
        for one, other in zip(by_file["predictions"], by_run, strict=True):
            assert one["image"] == other["image"]
            assert one.get("error") == other.get("error")
            assert [c["label"] for c in one.get("top", [])] == [
                c["label"] for c in other.get("top", [])
            ]
            for a, b in zip(one.get("top", []), other.get("top", []), strict=True):
                assert a["probability"] == pytest.approx(b["probability"], abs=1e-4)


def test_predict_from_an_artifact_imports_no_torch(cnn, pictures) -> None:
    code = (
        "import sys\nfrom fieldmark.cli import main\n"
        f"main(['predict', {str(cnn.made.file)!r}, {str(pictures)!r}, '--json'])\n"
        "heavy = {'torch', 'torchvision', 'timm', 'onnx', 'sklearn', 'pandas'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["predictions"]) == 36


def test_timm_loads_the_folder(cnn, tmp_path, answer) -> None:
    words = ("export", cnn.run.path, "--format", "timm", "--out", tmp_path / "for-timm")
    told = answer(*words)
    assert told["passed"] and told["top1_agreement"] == 1.0
    assert told["runtimes"][0]["name"] == "timm" and told["megabytes"] > 1
    made = SimpleNamespace(folder=Path(told["folder"]))
    network = timm.create_model(f"local-dir:{made.folder}", pretrained=True).eval()
    assert network.num_classes == 3
    config = json.loads((made.folder / "config.json").read_text())
    assert "num_classes" not in config.get("model_args", {})  # transformers fails on it
    assert json.loads((made.folder / "parity.json").read_text())["passed"] is True


def test_timm_is_refused_a_network_that_it_has_not(save_run) -> None:
    run = fm.load_run(save_run(name="test_vit", head="ifa"))
    with pytest.raises(ExportError, match=r"head ifa .* is not a network of timm's own"):
        export(run, format="timm")


def test_what_differs_is_not_kept(save_run, monkeypatch, capsys) -> None:
    path = save_run(name="resnet10t")
    monkeypatch.setattr("fieldmark.exporting.parity.MAX_DIFFERENCE", -1.0)
    with pytest.raises(SystemExit) as caught:
        main(["export", str(path), "--format", "timm"])
    assert caught.value.code == 1
    told = capsys.readouterr().err
    assert "the exported network differs from the run: 100.00% of the decisions on 18" in told
    assert not (path / "export" / "timm-fp32").exists()
    failed = path / "export" / "timm-fp32-failed-parity.json"
    assert json.loads(failed.read_text())["passed"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "onx"}, r"--format onx: expected one of onnx, timm. Did you mean 'onnx'\?"),
        ({"precision": "int4"}, r"--precision int4: expected one of fp32, int8"),
        ({"format": "timm", "precision": "int8"}, "goes with --format onnx"),
        ({"images": 0}, "expected a number of images from 1, not 0"),
        ({"out": "taken"}, "is already there and is no earlier export"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message, cnn, tmp_path) -> None:
    if "out" in options:
        (tmp_path / "taken").mkdir()
        (tmp_path / "taken" / "thesis.txt").write_text("mine")
        options = {"out": tmp_path / "taken"}
    with pytest.raises(ExportError, match=message):
        export(cnn.run, **options)


def test_int8_without_the_instructions_is_refused(cnn, monkeypatch) -> None:
    monkeypatch.setattr(processor, "computes_int8", lambda: False)
    with pytest.raises(ExportError, match=r"no instructions for 8-bit products \(avx512_vnni"):
        export(cnn.run, precision="int8")


@torch.library.custom_op("fieldmark_test::unknown_to_onnx", mutates_args=())
def unknown_to_onnx(values: torch.Tensor) -> torch.Tensor:
    return values.clone()


@unknown_to_onnx.register_fake
def _(values: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(values)


class Odd(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.ops.fieldmark_test.unknown_to_onnx(values)


def test_a_missing_operator_is_named_with_its_layer(cnn, tmp_path) -> None:
    network = load_predictor(cnn.run.folder).classifier
    record = open_artifact(cnn.made.file).record
    network.head = nn.Sequential(network.head, Odd())
    network.head.reads = "pooled"
    with pytest.raises(ExportError, match=r"fieldmark_test\.unknown_to_onnx, .* head\.1 \(Odd\)"):
        onnx_export.export_onnx(network, record, tmp_path / "odd.onnx")


def test_a_file_of_others_is_refused(cnn, tmp_path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(cnn.made.file)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    (tmp_path / "short.onnx").write_bytes(cnn.made.file.read_bytes()[:1000])
    for name, message in (
        ("other.onnx", "says neither its classes nor its preprocessing"),
        ("short.onnx", "ONNX Runtime cannot load it"),
        ("gone.onnx", "there is no such file"),
    ):
        with pytest.raises(ExportError, match=message):
            open_artifact(tmp_path / name)


def test_the_proof_names_each_runtime_whole_on_a_narrow_terminal(cnn) -> None:
    slow = replace(cnn.made.parity.runtimes[0], name="openvino-bf16")
    parity = replace(cnn.made.parity, runtimes=(*cnn.made.parity.runtimes, slow))
    console = Console(width=80, file=StringIO())
    console.print(_as_table(replace(cnn.made, parity=parity)))
    shown = console.file.getvalue()
    assert all(runtime.name in shown for runtime in parity.runtimes)
    assert "…" not in shown
