from __future__ import annotations

import numpy as np
import pytest

import fieldmark as fm
from fieldmark.exporting import processor
from fieldmark.exporting.artifact import open_artifact, open_session
from fieldmark.exporting.onnx_export import export_onnx
from fieldmark.verbs.exporting import export

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from fieldmark.exporting.quantization import outputs_of, quantize  # noqa: E402
from fieldmark.exporting.smoothing import smooth  # noqa: E402


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
    export_onnx(predictor.classifier, open_artifact(cnn.made.file).record, path)
    images = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32)
    return path, images


def test_smoothing_changes_no_answer(vit) -> None:
    path, images = vit
    model = onnx.load(path)
    before = outputs_of(model, images, threads=1)
    del model.graph.value_info[:]
    names = smooth(model, images)
    assert any("qkv" in name for name in names) and any("fc2" in name for name in names)
    np.testing.assert_allclose(outputs_of(model, images, threads=1), before, atol=2e-4, rtol=1e-4)


def test_layers_go_back_to_fp32_until_the_decisions_agree(vit) -> None:
    path, images = vit
    model = onnx.load(path)
    graphs = []

    def judge(graph) -> float:
        graphs.append(graph)
        return 1.0 if len(graphs) >= 5 else 0.5  # three ways to calibrate, then layers

    found = next(quantize(model, images, judge))
    assert len(found.kept_fp32) >= 2
    assert all("/" not in name for name in found.kept_fp32)
    types = [node.op_type for node in found.model.graph.node]
    assert types.count("DequantizeLinear") < [n.op_type for n in graphs[0].graph.node].count(
        "DequantizeLinear"
    )
    assert open_session(found.model.SerializeToString())
