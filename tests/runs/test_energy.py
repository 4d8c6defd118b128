from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.runs.energy import Counter, EnergyMeter


def write_zone(powercap: Path, zone: str, name: str, microjoules: int) -> Path:
    folder = powercap / zone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text("262143000000\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder


def test_packages_are_counted_and_their_parts_are_not(tmp_path: Path) -> None:
    package = write_zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    write_zone(tmp_path, "intel-rapl:0:0", "core", 1_000_000)
    write_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1_000_000)
    meter = EnergyMeter.start("cpu", tmp_path)
    (package / "energy_uj").write_text("7201000000")
    assert meter.read() == {"package-0": 2.0}


def test_a_counter_that_starts_again_loses_nothing() -> None:
    values = iter([90.0, 10.0, 30.0])
    counter = Counter("package-0", lambda: next(values), 100.0, last=80.0)
    for _ in range(3):
        counter.sample()
    assert counter.used == 10 + 20 + 20


def test_without_counters_nothing_is_told(tmp_path: Path) -> None:
    assert EnergyMeter.start("cpu", tmp_path).read() == {}
    assert EnergyMeter.start("cpu", tmp_path / "none").read() == {}


def test_a_counter_that_may_not_be_read_any_more_is_dropped(tmp_path: Path) -> None:
    package = write_zone(tmp_path, "intel-rapl:0", "package-0", 5)
    meter = EnergyMeter.start("cpu", tmp_path)
    (package / "energy_uj").unlink()
    assert meter.read() == {}


def test_counters_are_not_read_at_every_step(tmp_path: Path, monkeypatch) -> None:
    package = write_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter.start("cpu", tmp_path)
    (package / "energy_uj").write_text("3600000000")
    meter.sample()
    assert meter.counters[0].used == 0.0
    monkeypatch.setattr("fieldmark.runs.energy.SAMPLE_SECONDS", 0.0)
    meter.sample()
    assert meter.counters[0].used == pytest.approx(3600.0)
