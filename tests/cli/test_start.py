"""What `train` imports before its first step, and what it does in the meantime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fieldmark.cli.ahead import draw_ahead
from fieldmark.data.samples import draw_sample
from fieldmark.errors import RecipeError, TableError

# Charts, pages and what only other commands need.
NOT_NEEDED = {
    *("sklearn", "scipy", "pandas", "matplotlib", "jinja2", "datasets", "transformers", "captum"),
    *("cleanlab", "mapie", "onnx", "onnxruntime", "openvino", "fastapi", "uvicorn"),
    *("fieldmark.reporting", "fieldmark.inspection", "fieldmark.exporting", "fieldmark.planning"),
}
UNTIL_FIRST_STEP = """
import sys
from fieldmark.cli import train as command
from fieldmark.cli.app import main
import fieldmark.cli.progress as progress

class Started(BaseException):
    pass

def stop(self, event):
    if type(event).__name__ == "StepDone":
        raise Started

progress.TrainingView.__call__ = stop
try:
    main(["train", sys.argv[1], "--out", sys.argv[2], "--set", "model.name=resnet10t",
          "data.image_size=32", "workers=0"])
except Started:
    print(" ".join(sorted(sys.modules)))
"""


def test_first_step_waits_for_no_import_it_does_not_need(tmp_path: Path) -> None:
    from fieldmark.cli.app import main

    main(["sample", "leaves", str(tmp_path / "leaves"), "--images", "40", "--classes", "2"])
    done = subprocess.run(
        [
            *(sys.executable, "-c", UNTIL_FIRST_STEP),
            *(str(tmp_path / "leaves" / "table.csv"), str(tmp_path / "run")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "torch" in loaded
    assert NOT_NEEDED & loaded == set()


def test_a_sample_drawn_ahead_is_the_same_table() -> None:
    table = draw_ahead("sample:leaves", None, ["seed=1"])
    if table is None:
        pytest.skip("one core, or no fork")
    drawn = table.result()
    here = draw_sample("leaves", num_images=28)  # the first two of each class
    assert drawn.class_names == here.class_names
    assert (drawn.source, drawn.task, len(drawn)) == ("sample:leaves", "multiclass", 490)
    pictures = {drawn.store.read(row.image) for row in drawn.rows}
    assert pictures >= {here.store.read(row.image) for row in here.rows}


def test_other_data_is_not_read_ahead() -> None:
    for data in (None, "leaves.csv"):
        assert draw_ahead(data, None, []) is None


def test_faults_of_what_is_read_ahead_are_told() -> None:
    table = draw_ahead("sample:leafs", None, [])
    if table is not None:
        with pytest.raises(TableError, match="Did you mean 'leaves'"):
            table.result()
    with pytest.raises(RecipeError):
        draw_ahead("sample:leaves", "no-such-recipe", [])
