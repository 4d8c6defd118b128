"""`train --profile`: where the time went, as a table, as JSON and as a trace."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from fieldmark.cli.app import main
from fieldmark.data.samples import draw_sample
from fieldmark.training.events import Event, Profiled
from fieldmark.training.watches import PHASES, StepWatch
from fieldmark.verbs import train

SMALL = [
    "data.image_size=32",
    "data.split.near_duplicates=false",
    "model.name=resnet10t",
    "optim.batch_size=8",
    "optim.epochs=1",
    "workers=0",
    "precision=fp32",
]


def test_profile_tells_where_the_time_went(tmp_path: Path) -> None:
    events: list[Event] = []
    run = train(
        draw_sample("leaves", num_images=60, num_classes=3),
        recipe="quick",
        overrides=SMALL,
        out=tmp_path / "run",
        profile=True,
        listener=events.append,
    )
    found = json.loads((run.path / "profile.json").read_text())
    phases = {phase["name"]: phase for phase in found["phases"]}
    assert list(phases) == [*PHASES, "other"]
    steps = found["steps"]
    assert steps == -(-42 // 8)
    assert [phases[name]["calls"] for name in PHASES] == [*[steps] * 5, 1, 2]
    assert sum(phase["share"] for phase in found["phases"]) == pytest.approx(1.0)
    assert sum(phase["seconds"] for phase in found["phases"]) == pytest.approx(found["seconds"])
    assert [type(event) for event in events][-2] is Profiled

    trace = json.loads((run.path / found["trace"]).read_text())
    names = [event.get("name") for event in trace["traceEvents"]]
    first, last = found["traced_steps"]
    assert first > 1 and last - first == 2
    assert names.count("forward") >= 3
    assert any(str(name).startswith("aten::convolution") for name in names)


def test_nothing_is_written_without_profile(tmp_path: Path) -> None:
    table = draw_sample("leaves", num_images=60, num_classes=3)
    run = train(table, recipe="quick", overrides=SMALL, out=tmp_path / "run")
    assert not list(run.path.glob("profile*"))


def test_command_shows_the_table_and_gives_it_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["sample", "leaves", str(tmp_path / "leaves"), "--images", "40", "--classes", "2"])
    capsys.readouterr()
    command = [
        "train",
        str(tmp_path / "leaves" / "table.csv"),
        "--profile",
        "--no-evaluate",
        "--set",
        *SMALL,
    ]
    main([*command, "--out", str(tmp_path / "one")])
    shown = capsys.readouterr().out
    assert "where the time went" in shown
    assert all(name in shown for name in (*PHASES, "other"))
    main([*command, "--out", str(tmp_path / "two"), "--json"])
    profile = json.loads(capsys.readouterr().out)["profile"]
    assert [phase["name"] for phase in profile["phases"]] == [*PHASES, "other"]
    assert Path(profile["trace"]).is_file() and Path(profile["path"]).is_file()


def test_a_phase_that_fails_is_counted_and_the_error_goes_on(tmp_path: Path) -> None:
    watch = StepWatch("cpu", tmp_path / "trace.json", num_steps=1)
    with pytest.raises(KeyError), watch.phase("forward"):
        time.sleep(0)
        raise KeyError
    found = {name: calls for name, _, _, calls in watch.read().phases}
    assert found["forward"] == 1
    assert watch.read().traced is None
