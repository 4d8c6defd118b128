from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fieldmark.cli import main
from fieldmark.errors import ExportError
from fieldmark.exporting import file_runtimes
from fieldmark.exporting.artifact import open_artifact
from fieldmark.exporting.file_runtimes import choose_runtime
from fieldmark.exporting.parity import holds_in_use
from fieldmark.exporting.samples import Agreement

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

IMAGES = np.zeros((8, 3, 32, 32), dtype=np.float32)


def choose(cnn, proved, monkeypatch, *, num_images=1000, wanted="auto"):
    artifact = open_artifact(cnn.made.file)
    record = replace(artifact.record, proved=proved)
    speeds = {"onnxruntime": 3.0, "openvino": 2.0, "openvino-bf16": 1.0}
    monkeypatch.setattr(file_runtimes, "has_openvino", lambda: True)
    monkeypatch.setattr(
        file_runtimes,
        "run_with_openvino",
        lambda file, threads, exact: "openvino" if exact else "openvino-bf16",
    )
    monkeypatch.setattr(file_runtimes, "_time", lambda network, images: speeds[network])
    return choose_runtime(
        *(artifact.path, record, "onnxruntime", IMAGES, wanted), num_images=num_images, threads=1
    )


def test_the_fastest_of_the_proved_runtimes_runs_a_file(cnn, monkeypatch) -> None:
    found = choose(cnn, ("onnxruntime", "openvino", "openvino-bf16"), monkeypatch)
    assert found.name == found.network == "openvino-bf16"
    assert "the fastest that the export proved (onnxruntime 3.0 ms" in found.reason
    assert choose(cnn, ("onnxruntime", "openvino"), monkeypatch).name == "openvino"
    assert choose(cnn, ("onnxruntime",), monkeypatch).name == "onnxruntime"
    assert choose(cnn, (), monkeypatch).name == "onnxruntime"  # a file of before


def test_few_images_are_left_to_onnx_runtime(cnn, monkeypatch) -> None:
    found = choose(cnn, ("openvino",), monkeypatch, num_images=255)
    assert (found.name, found.reason) == ("onnxruntime", "for 255 images no other pays")


def test_a_named_runtime_runs_unproved(cnn, monkeypatch) -> None:
    assert choose(cnn, (), monkeypatch, wanted="openvino").network == "openvino"


def test_a_runtime_is_proved_by_the_bound_of_its_precision() -> None:
    near, far = Agreement(1.0, 0.009, None, None), Agreement(0.99, 0.3, None, None)
    assert holds_in_use("fp32", near) and holds_in_use("int8", near)
    assert not holds_in_use("fp32", far) and holds_in_use("int8", far)
    assert not holds_in_use("fp32", Agreement(1.0, 0.021, None, None))
    assert not holds_in_use("int8", Agreement(0.989, 0.0, None, None))


def test_openvino_runs_a_file_and_the_file_says_that_it_was_proved(cnn, pictures, capsys) -> None:
    pytest.importorskip("openvino")
    assert {"onnxruntime", "openvino"} <= set(open_artifact(cnn.made.file).record.proved)
    rows = {}
    for backend in ("onnxruntime", "openvino", "openvino-bf16"):
        words = ("predict", str(cnn.made.file), str(pictures), "--backend", backend)
        main([*words, "--json", "--quiet"])
        told = json.loads(capsys.readouterr().out)
        assert (told["backend"]["name"], told["backend"]["runtime"]) == ("artifact", backend)
        rows[backend] = [row["top"][0] for row in told["predictions"]]
    for one, other in zip(rows["onnxruntime"], rows["openvino"], strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)


def test_auto_times_runtimes_on_images_of_the_table(cnn, pictures, monkeypatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("fieldmark.exporting.artifact.FEWEST_IMAGES", 36)
    monkeypatch.setattr(file_runtimes, "FEWEST_IMAGES", 36)
    heard = []
    rows = open_artifact(cnn.made.file).predict([pictures], told=heard.append)
    assert len(rows) == 36 and all(row.top for row in rows)
    assert "the fastest that the export proved" in heard[0].reason


def test_what_cannot_run_a_file_is_refused(cnn, pictures) -> None:
    artifact = open_artifact(cnn.made.file)
    with pytest.raises(ExportError, match=r"--backend openvin: .* Did you mean 'openvino'\?"):
        artifact.predict([pictures], backend="openvin")
    with pytest.raises(ExportError, match="or give the run folder"):
        artifact.predict([pictures], backend="eager")
