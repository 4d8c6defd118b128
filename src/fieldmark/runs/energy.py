"""The energy that training took, where the hardware counts it: CPU packages and NVIDIA GPUs.

Linux shows the counters of the processor (RAPL) below /sys/class/powercap, readable as the system
allows; the driver of a GPU has one for each (NVML). Both count all that runs on the hardware.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
SAMPLE_SECONDS = 20.0
_JOULES_PER_WATT_HOUR = 3600.0


@dataclass
class Counter:
    """A count of joules that starts again at 0 after `range_joules` (None: never)."""

    name: str
    read: Callable[[], float]
    range_joules: float | None
    last: float
    used: float = 0.0

    def sample(self) -> None:
        """Add what was used since the last look; one turn of the counter between two is allowed."""
        now = self.read()
        passed = now - self.last
        if passed < 0 and self.range_joules is not None:
            passed += self.range_joules
        self.used += max(passed, 0.0)
        self.last = now


@dataclass
class EnergyMeter:
    """Adds up the counters from its making on. Without any it knows nothing, and says so."""

    counters: list[Counter]
    _sampled_at: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, device: str, powercap: Path = POWERCAP) -> EnergyMeter:
        """Find the counters of the processor and, for a `cuda` device, of that GPU."""
        found = _find_packages(powercap)
        if device.startswith("cuda"):
            with suppress(OSError, AttributeError):
                found += _find_gpu(device)
        return cls(found)

    def sample(self, *, now: bool = False) -> None:
        """Look at the counters, at most every `SAMPLE_SECONDS`: they turn over within the hour."""
        if not now and time.monotonic() - self._sampled_at < SAMPLE_SECONDS:
            return
        self._sampled_at = time.monotonic()
        for counter in list(self.counters):
            try:
                counter.sample()
            except (OSError, ValueError):
                # Half a measurement is none.
                self.counters.remove(counter)

    def read(self) -> dict[str, float]:
        """Watt-hours so far by counter, such as `package-0` or `gpu`; empty without any."""
        self.sample(now=True)
        return {c.name: round(c.used / _JOULES_PER_WATT_HOUR, 4) for c in self.counters}


def _find_packages(powercap: Path) -> list[Counter]:
    """One counter per processor package; parts of a package and its second interface are in it."""
    counters = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            if not name.startswith("package"):
                continue
            full = _read_microjoules(zone / "max_energy_range_uj")
            path = zone / "energy_uj"
            counters.append(Counter(name, _reader_of(path), full, _read_microjoules(path)))
        except (OSError, ValueError):
            continue
    return counters


def _reader_of(path: Path) -> Callable[[], float]:
    return lambda: _read_microjoules(path)


def _read_microjoules(path: Path) -> float:
    return int(path.read_text()) / 1e6


def _find_gpu(device: str) -> list[Counter]:
    """The counter of one GPU, through the driver's own library; none before Volta."""
    import torch

    library = ctypes.CDLL("libnvidia-ml.so.1")
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    handle = ctypes.c_void_p()
    if library.nvmlInit_v2() != 0:
        return []
    name = f"GPU-{uuid.removeprefix('GPU-')}".encode()
    if library.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle)) != 0:
        return []

    def read() -> float:
        millijoules = ctypes.c_ulonglong()
        if library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)) != 0:
            raise OSError("the GPU does not tell its energy")
        return millijoules.value / 1e3

    return [Counter("gpu", read, None, read())]
