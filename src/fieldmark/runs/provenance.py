"""Where a run came from: versions, hardware, command line, time and memory."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("fieldmark", "torch", "torchvision", "timm", "accelerate", "numpy", "pillow")


def describe_environment(device: str, precision: str) -> dict[str, Any]:
    """Return what is needed to judge and repeat a run, as plain values."""
    return {
        "command": [os.path.basename(sys.argv[0]) if sys.argv else "", *sys.argv[1:]],  # noqa: PTH119
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git_commit": _git_commit(),
        "device": device,
        "device_name": _device_name(device),
        "precision": precision,
        "cpu_cores": os.cpu_count(),
        "threads": _threads(),
    }


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, MB (GPU memory not included)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def fieldmark_version() -> str:
    """Of this package; empty where it runs without being installed."""
    return _version("fieldmark") or ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Commit of the folder the command was given in, with '+' when it has changes."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=True, timeout=5
    )
    return done.stdout.strip()


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return _cpu_name() or platform.processor() or platform.machine()


def _cpu_name() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            return next(line.split(":", 1)[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        return None


def _threads() -> int:
    import torch

    return torch.get_num_threads()
