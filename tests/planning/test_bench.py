"""Measuring networks and loaders: what is counted, and why a sweep ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fieldmark.cli import main
from fieldmark.errors import FieldmarkError, UnknownModelError
from fieldmark.planning.bench import networks, timing
from fieldmark.planning.bench.limits import MachineLimits, measure_limits
from fieldmark.planning.bench.networks import SweepOptions, bench_network
from fieldmark.planning.bench.records import NetworkBench
from fieldmark.planning.bench.timing import Timing, time_work
from fieldmark.recipes import Recipe, read_recipe
from fieldmark.verbs.bench import bench, save_bench

LIMITS = MachineLimits("cpu", "fp32", 1, matmul_gflops=100.0, memory_gb_per_second=10.0)


def lecture_net() -> Recipe:
    return read_recipe(None, ["model.name=lecture-net", "data.image_size=32", "optim.name=sgd"])


def test_work_is_warmed_up_and_repeated_five_times_at_least() -> None:
    calls: list[int] = []
    found = time_work(lambda: calls.append(1), device="cpu", seconds=0.0, num_warmups=3)
    assert len(calls) == 3 + timing.MIN_REPEATS
    assert len(found.seconds) == timing.MIN_REPEATS


def test_median_and_quartiles_are_those_of_the_repeats() -> None:
    found = Timing((5.0, 1.0, 2.0, 3.0, 4.0))
    assert found.median == 3.0
    assert found.quartiles == (2.0, 4.0)


def test_the_machine_has_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldmark.planning.bench.limits.MATRIX_SIDES", (64,))
    monkeypatch.setattr("fieldmark.planning.bench.limits.COPIED_BYTES", 2**16)
    found = measure_limits("cpu", "bf16", seconds=0.0)
    assert found.matmul_gflops > 0
    assert found.memory_gb_per_second > 0


@pytest.mark.parametrize(("mode", "factor"), [("infer", 1), ("train", 3)])
def test_points_follow_from_the_time_of_a_batch(
    mode: str, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_two_seconds(work: object, **_: object) -> Timing:
        work()  # type: ignore[operator]
        return Timing((1.0, 2.0, 2.0, 2.0, 4.0))

    monkeypatch.setattr(networks, "time_work", take_two_seconds)
    options = SweepOptions(batch_sizes=(3, 8))
    found = bench_network(lecture_net(), mode, LIMITS, num_classes=10, options=options)
    assert found.parameters == 62_006
    assert found.stopped == "asked"
    assert [point.batch_size for point in found.points] == [3, 8]
    last = found.points[-1]
    assert (last.images_per_second, last.low, last.high) == (4.0, 4.0, 4.0)
    assert last.latency_ms == 2000.0
    per_image = 2 * found.mult_adds * factor
    assert last.share_of_limit == pytest.approx(4.0 * per_image / 100e9)
    assert found.limit_images_per_second == pytest.approx(100e9 / per_image)
    assert found.best == last


@pytest.mark.parametrize(
    ("seconds_of", "free", "max_seconds", "expected", "batches"),
    [
        (lambda batch: batch, 2**40, 1e9, "flat", [1, 2, 4, 8]),
        (lambda batch: 1.0, 2**40, 10.0, "time", [1]),
        (lambda batch: 1.0, 2**20, 1e9, "memory", [1]),
    ],
)
def test_a_sweep_says_why_it_ends(
    seconds_of: object,
    free: int,
    max_seconds: float,
    expected: str,
    batches: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    step = lambda images, *_: sizes.append(len(images))  # noqa: E731
    monkeypatch.setattr(networks, "_infer", lambda classifier: step)
    monkeypatch.setattr(networks, "_available_bytes", lambda device: free)

    def take(work: object, **_: object) -> Timing:
        work()  # type: ignore[operator]
        return Timing((float(seconds_of(sizes[-1])),) * 5)  # type: ignore[operator]

    monkeypatch.setattr(networks, "time_work", take)
    options = SweepOptions(max_seconds=max_seconds)
    found = bench_network(lecture_net(), "infer", LIMITS, num_classes=10, options=options)
    assert found.stopped == expected
    assert sizes == batches


def test_a_batch_that_does_not_fit_ends_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_above_two(images: object, *_: object) -> None:
        if len(images) > 2:  # type: ignore[arg-type]
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(networks, "_infer", lambda classifier: fail_above_two)
    options = SweepOptions(seconds_per_point=0.0)
    found = bench_network(lecture_net(), "infer", LIMITS, num_classes=10, options=options)
    assert found.stopped == "memory"
    assert [point.batch_size for point in found.points] == [1, 2]


def test_other_errors_are_not_taken_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(networks, "_infer", lambda classifier: fail)
    with pytest.raises(RuntimeError, match="shapes"):
        bench_network(lecture_net(), "infer", LIMITS, num_classes=10, options=SweepOptions())


def test_a_wrong_name_is_found_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fieldmark.verbs.bench.measure_limits", lambda *_: pytest.fail("measured"))
    with pytest.raises(UnknownModelError, match="resnet18"):
        bench(["lecture-net", "resnet18x"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mode": "inference"}, "infer, train, load"),
        ({"batch_sizes": (4, 0)}, "positive"),
        ({"seconds": 0.0}, "positive"),
    ],
)
def test_what_cannot_be_measured_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(FieldmarkError, match=said):
        bench(["lecture-net"], **settings)  # type: ignore[arg-type]


def test_networks_by_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fieldmark.verbs.bench.measure_limits", lambda *_: LIMITS)
    out = tmp_path / "speed"
    words = ["bench", "lecture-net", "--batch-size", "1", "2", "--out", str(out), "--json"]
    main([*words, "--set", "precision=fp32"])
    answer = json.loads(capsys.readouterr().out)
    (found,) = answer["results"]
    assert [point["batch_size"] for point in found["points"]] == [1, 2]
    assert found["limits"]["matmul_gflops"] == 100.0
    assert {Path(path).name for path in answer["files"]} == {"bench.json", "bench.png", "bench.svg"}
    assert json.loads((out / "bench.json").read_text())[0]["name"] == "lecture-net"
    main(words[:-1])
    shown = capsys.readouterr().out
    assert "images/s" in shown
    assert "matrix products alone" in shown


def write_leaves(folder: Path) -> str:
    main(["sample", "leaves", str(folder / "leaves"), "--images", "12", "--classes", "2"])
    return str(folder / "leaves" / "table.csv")


def test_loading_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_leaves(tmp_path)
    capsys.readouterr()
    main(["bench", source, "--mode", "load", "--image-size", "32", "--json"])
    (found,) = json.loads(capsys.readouterr().out)["results"]
    assert [epoch["num_images"] for epoch in found["epochs"]] == [12, 12, 12]
    assert found["keeps_decoded"]
    assert all(epoch["images_per_cpu_second"] > 0 for epoch in found["epochs"])


def test_loading_writes_no_figure(tmp_path: Path) -> None:
    found = bench([write_leaves(tmp_path)], mode="load", overrides=["cache=off"], image_size=32)
    assert not isinstance(found[0], NetworkBench)
    assert not found[0].keeps_decoded
    assert [path.name for path in save_bench(found, tmp_path)] == ["bench.json"]
