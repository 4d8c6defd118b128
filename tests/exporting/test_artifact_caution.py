"""What `evaluate --calibrate` stored goes into the file, and is used without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import fieldmark as fm
from fieldmark.cli import main
from fieldmark.data.images import decode_image
from fieldmark.data.sources import read_table
from fieldmark.errors import DataError, ExportError, RunChangedError
from fieldmark.evaluation.caution import Caution
from fieldmark.evaluation.conformal import SetRule
from fieldmark.evaluation.rejection import RejectionRule
from fieldmark.evaluation.trust import Calibration
from fieldmark.exporting.artifact import open_artifact
from fieldmark.runs.best import load_best, save_best
from fieldmark.verbs.exporting import export

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def calibrated(save_run) -> SimpleNamespace:
    """A run that is unsure of its pictures, with a temperature, and its export: `run`, `file`."""
    run = fm.load_run(save_run(name="resnet10t"))
    classifier = run.predictor().classifier
    with torch.no_grad():
        last = classifier.head.last_layers[-1]
        last.weight.mul_(0.06)
        last.bias.mul_(0.06)
    _, identity = load_best(run.folder.find_best())
    save_best(run.folder.best_dir, classifier, identity, {"epoch": 1})
    run.calibrate(coverage=0.8)
    warmer = between_images(run)
    run.folder.save_calibration(warmer.to_json())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fieldmark.exporting.parity.ROUNDS", 1)
        patch.setattr("fieldmark.verbs.exporting.has_openvino", lambda: False)
        return SimpleNamespace(run=run, file=export(run).file, calibration=warmer)


def between_images(run: fm.Run) -> Calibration:
    """A temperature of 1.7, and thresholds that no image's score lies on: half pass."""
    table, predictor = read_table(run.recipe.data.source), run.predictor()
    images = [predictor.transform(decode_image(table.store.read(r.image))) for r in table.rows]
    with torch.inference_mode():
        logits = predictor.classifier(torch.stack(images)).double()  # (36, 3)
    ranked = logits.softmax(dim=1).sort(dim=1, descending=True).values

    def middle(scores: torch.Tensor) -> float:
        return float(scores.sort().values[len(scores) // 2 - 1 :][:2].mean())

    sets = {
        "lac": SetRule("lac", 1 - middle(ranked[:, 1])),
        "aps": SetRule("aps", middle(ranked[:, 0])),
        "raps": SetRule("raps", middle(ranked[:, 0])),
    }
    at_temperature = (logits / 1.7).softmax(dim=1).amax(dim=1)
    rejection = {
        "probability": RejectionRule("probability", middle(ranked[:, 0])),
        "calibrated_probability": RejectionRule("probability", middle(at_temperature)),
        "energy": RejectionRule("energy", middle(logits.logsumexp(dim=1))),
    }
    found = run.load_calibration()
    temperature = replace(found.temperature, temperature=1.7)
    return replace(found, temperature=temperature, sets=sets, rejection=rejection)


def test_the_file_holds_temperature_and_thresholds(calibrated) -> None:
    assert open_artifact(calibrated.file).record.calibration == calibrated.calibration
    metadata = pytest.importorskip("onnx").load(calibrated.file).metadata_props
    told = json.loads(next(entry.value for entry in metadata if entry.key == "calibration"))
    assert told["temperature"]["temperature"] == 1.7 and set(told["sets"]) == {"lac", "aps", "raps"}


@pytest.mark.parametrize(
    "options",
    [
        ("--calibrated",),
        ("--sets",),
        ("--sets", "raps", "--calibrated"),
        ("--reject",),
        ("--reject", "--calibrated"),
        ("--reject", "--reject-by", "energy"),
        ("--reject", "own"),
    ],
    ids=" ".join,
)
def test_the_file_answers_with_the_caution_of_the_run(
    options, calibrated, pictures, capsys
) -> None:
    own = str(calibrated.calibration.rejection["probability"].threshold)
    options = [own if word == "own" else word for word in options]
    rows = {}
    for path in (calibrated.run.path, calibrated.file):
        main(["predict", str(path), str(pictures), *options, "--json", "--quiet"])
        rows[path] = json.loads(capsys.readouterr().out)["predictions"]
    for one, other in zip(*rows.values(), strict=True):
        assert one.get("label_set") == other.get("label_set")
        assert one.get("unknown") == other.get("unknown")
        for a, b in zip(one["top"], other["top"], strict=True):
            assert a["label"] == b["label"]
            assert a["probability"] == pytest.approx(b["probability"], abs=1e-4)
    asked = rows[calibrated.file]
    if "--sets" in options:
        assert len({len(row["label_set"]) for row in asked}) > 1
    if "--reject" in options:
        assert 0 < sum(row["unknown"] for row in asked) < len(asked)


def test_caution_from_a_file_imports_no_torch(calibrated, pictures) -> None:
    words = ["predict", str(calibrated.file), str(pictures), "--json", "--calibrated"]
    words += ["--reject", "--sets", "aps"]
    code = (
        f"import sys\nfrom fieldmark.cli import main\nmain({words!r})\n"
        "heavy = {'torch', 'torchvision', 'timm', 'onnx', 'sklearn', 'pandas', 'scipy'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "label_set" in json.loads(done.stdout)["predictions"][0]


def test_a_file_without_calibration_says_how_it_gets_one(cnn, pictures, capsys) -> None:
    for option in ("--calibrated", "--sets", "--reject"):
        with pytest.raises(SystemExit) as caught:
            main(["predict", str(cnn.made.file), str(pictures), option])
        assert caught.value.code == 2
        told = " ".join(capsys.readouterr().err.split())
        assert "`fieldmark evaluate RUN --calibrate` fits them" in told
        assert "`fieldmark export RUN` then writes them into the file" in told
    main(["predict", str(cnn.made.file), str(pictures), "--reject", "1.1", "--json"])
    assert all(row["unknown"] for row in json.loads(capsys.readouterr().out)["predictions"])


def test_a_calibration_of_other_weights_is_not_exported(calibrated, tmp_path) -> None:
    stored = calibrated.run.folder.load_calibration()
    try:
        calibrated.run.folder.save_calibration({**stored, "selected": {"epoch": 0}})
        with pytest.raises(RunChangedError, match=r"`fieldmark evaluate .* --calibrate` writes it"):
            export(calibrated.run, out=tmp_path / "out")
    finally:
        calibrated.run.folder.save_calibration(stored)


def test_a_multilabel_file_has_no_label_sets(cnn, pictures) -> None:
    artifact = open_artifact(cnn.made.file)
    several = replace(artifact, record=replace(artifact.record, task="multilabel"))
    with pytest.raises(DataError, match="a multi-label run has a probability for each class"):
        several.caution(sets="lac")
    with pytest.raises(DataError, match="a multi-label run has a probability for each class"):
        several.predict([pictures], caution=Caution(sets=SetRule("lac", 0.5)))


def test_changed_metadata_are_refused(calibrated, tmp_path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(calibrated.file)
    entry = next(entry for entry in model.metadata_props if entry.key == "fieldmark")
    values = json.loads(entry.value)
    values["calibration"]["sets"] = {}
    entry.value = json.dumps(values)
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(ExportError, match="its metadata were changed: KeyError"):
        open_artifact(tmp_path / "changed.onnx")


def test_int8_holds_them_too_and_says_what_they_are_of(calibrated, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("fieldmark.exporting.parity.ROUNDS", 1)
    monkeypatch.setattr("fieldmark.verbs.exporting.has_openvino", lambda: False)
    monkeypatch.setattr("fieldmark.exporting.processor.computes_int8", lambda: True)
    made = export(calibrated.run, precision="int8", out=tmp_path / "int8")
    assert open_artifact(made.file).record.calibration == calibrated.calibration
    assert any("found with fp32" in note for note in made.parity.notes)
