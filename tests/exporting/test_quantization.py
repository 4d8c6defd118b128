from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

import fieldmark as fm
from fieldmark.exporting import processor
from fieldmark.exporting.artifact import open_artifact, open_session
from fieldmark.exporting.onnx_export import export_onnx
from fieldmark.verbs.exporting import export

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from fieldmark.exporting import quantization, smoothing  # noqa: E402
from fieldmark.exporting.quantization import LAYERS, outputs_of, quantize  # noqa: E402


@pytest.fixture
def fast(monkeypatch) -> None:
    monkeypatch.setattr("fieldmark.exporting.parity.ROUNDS", 1)
    monkeypatch.setattr("fieldmark.verbs.exporting.has_openvino", lambda: False)
    monkeypatch.setattr(processor, "computes_int8", lambda: True)


def test_int8_keeps_the_decisions_in_a_quarter_of_the_size(cnn, fast) -> None:
    plain, small = cnn.made, export(cnn.run, precision="int8")
    assert small.parity.passed and small.parity.runtimes[0].agreement.top1 >= 0.99
    assert small.parity.to_json()["precision"] == "int8"
    assert "training images" in small.parity.calibration
    if not small.parity.kept_fp32:
        assert small.file.stat().st_size < 0.35 * plain.file.stat().st_size
    record = open_artifact(small.file).record
    assert (record.precision, record.kept_fp32) == ("int8", small.parity.kept_fp32)


@pytest.fixture(scope="module")
def vit(save_run, cnn, tmp_path_factory):
    """A small Vision Transformer as a graph, and images for it."""
    path = tmp_path_factory.mktemp("vit") / "model.onnx"
    predictor = fm.load_run(save_run(name="test_vit")).predictor()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in predictor.classifier.named_parameters():
        if name.endswith("bias"):  # as after training; new ones are alike, and share a tensor
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    export_onnx(predictor.classifier, open_artifact(cnn.made.file).record, path)
    images = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32)
    return path, images


@pytest.fixture
def cnn_graph(cnn):
    """A small CNN as a graph, and images for it."""
    images = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32)
    return cnn.made.file, images


def test_smoothing_changes_no_answer(vit, monkeypatch) -> None:
    monkeypatch.setattr(smoothing, "_biases", lambda *_: {})
    path, images = vit
    model = onnx.load(path)
    before = outputs_of(model, images, threads=1)
    del model.graph.value_info[:]
    names = smoothing.smooth(model, images)
    assert any("qkv" in name for name in names) and any("fc2" in name for name in names)
    np.testing.assert_allclose(outputs_of(model, images, threads=1), before, atol=2e-4, rtol=1e-4)


def test_biases_make_up_for_little(vit) -> None:
    path, images = vit
    model = onnx.load(path)
    before = outputs_of(model, images, threads=1)
    del model.graph.value_info[:]
    smoothing.smooth(model, images)
    after = outputs_of(model, images, threads=1)
    assert 0 < np.abs(after - before).max() < 0.1 * np.abs(before).max()


def test_layers_that_stay_in_fp32_get_their_own_bias_again(vit) -> None:
    path, images = vit
    model = onnx.load(path)
    before = outputs_of(model, images, threads=1)
    del model.graph.value_info[:]
    corrections = smoothing.smooth(model, images)
    assert any(corrections.values())

    smoothing.take_back(model, corrections, list(corrections))

    np.testing.assert_allclose(outputs_of(model, images, threads=1), before, atol=2e-4, rtol=1e-4)


def test_a_graph_that_keeps_all_layers_answers_as_before(vit, tmp_path) -> None:
    path, images = vit
    model = onnx.load(path)
    before = outputs_of(model, images, threads=1)
    del model.graph.value_info[:]
    corrections = smoothing.smooth(model, images)
    quantizer = quantization._Quantizer(model, images, corrections, tmp_path)
    whole = quantizer(quantization._layers(model))
    np.testing.assert_allclose(outputs_of(whole, images, threads=1), before, atol=2e-4, rtol=1e-4)


def test_layers_go_back_to_fp32_one_step_after_the_other(vit) -> None:
    path, images = vit
    found = list(quantize(onnx.load(path), images))
    kept = [set(each.kept_fp32) for each in found]
    assert all(before < after for before, after in pairwise(kept))
    assert all("/" not in name for name in kept[-1])
    assert len(found[-1].calibration) and open_session(found[-1].model.SerializeToString())
    exact = outputs_of(onnx.load(path), images, threads=1)
    errors = [np.abs(outputs_of(each.model, images, threads=1) - exact).max() for each in found]
    assert errors[-1] < errors[0]


@pytest.mark.parametrize("network", ["vit", "cnn_graph"])
def test_only_layers_with_weights_are_in_int8(network, request) -> None:
    path, images = request.getfixturevalue(network)
    found = next(quantize(onnx.load(path), images)).model
    dequantized = {
        name
        for node in found.graph.node
        if node.op_type == "DequantizeLinear"
        for name in node.output
    }
    weights = {tensor.name for tensor in found.graph.initializer}
    made = {name: node for node in found.graph.node for name in node.output}
    layers = [n for n in found.graph.node if n.op_type in LAYERS and n.input[0] in dequantized]
    assert layers
    for node in layers:  # the second is a weight, not another activation
        assert made[node.input[1]].input[0] in weights, node.name


def test_no_image_of_the_proof_chooses_what_stays_in_fp32(cnn, fast, monkeypatch) -> None:
    from fieldmark.verbs import exporting

    read: list[set[str]] = []
    plain = exporting.read_samples

    def listen(predictor, table, count):
        found = plain(predictor, table, count)
        read.append({row.image for row in found.table.rows})
        return found

    monkeypatch.setattr(exporting, "read_samples", listen)
    made = export(cnn.run, precision="int8")
    proof, ranges, choosing = read
    assert len(proof) == made.parity.num_images == 18
    assert len(ranges) == len(choosing) == 9
    assert not proof & ranges and not proof & choosing and not ranges & choosing
    assert "layers of fp32 chosen on 9 training images" in made.parity.calibration


def test_validation_images_choose_where_the_proof_leaves_some(cnn, fast, monkeypatch) -> None:
    monkeypatch.setattr("fieldmark.verbs.exporting.FEW_IMAGES", 5)
    made = export(cnn.run, precision="int8", images=9)
    assert made.parity.images_from == "test"
    assert "chosen on 9 validation images" in made.parity.calibration
