"""How long `fieldmark --help` takes, and `train sample:leaves` until its first step shows.

python benchmarks/start.py [--repeats 5]

Seconds by the clock and CPU seconds of the process with its children. The training runs on a
terminal of its own, as a user has one, and is stopped when the line with its first loss is drawn.
"""

from __future__ import annotations

import argparse
import os
import pty
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from figures import Figure, tell

HELP_LIMIT, STEP_LIMIT = 0.5, 8.0
FIRST_STEP = b"images/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(f"{os.cpu_count()} cores, medians of {repeats} (lowest - highest)\n")
    print("| what | seconds by the clock | CPU s |")
    print("|---|---|---|")
    figures = []
    for what, start, limit in (
        ("fieldmark --help", ask_for_help, HELP_LIMIT),
        ("fieldmark train sample:leaves, to its first step", train_to_first_step, STEP_LIMIT),
    ):
        start()  # so that the files are in memory for all that count
        spent = [measure(start) for _ in range(repeats)]
        wall, cpu = zip(*spent, strict=True)
        print(f"| {what} | {_say(wall)} | {_say(cpu)} |", flush=True)
        shown = f"{statistics.median(wall):.2f} s"
        figures.append(Figure(what, shown, "-", statistics.median(wall), limit, is_ceiling=True))
    tell(figures)


def measure(start: Callable[[], float]) -> tuple[float, float]:
    """Seconds by the clock, as told, and of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = start()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ask_for_help() -> float:
    begun = time.perf_counter()
    command = [sys.executable, "-m", "fieldmark", "--help"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def train_to_first_step() -> float:
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "fieldmark", "train", "sample:leaves"]
        ours, theirs = pty.openpty()
        begun = time.perf_counter()
        with subprocess.Popen(
            [*command, "--out", str(Path(place) / "run")],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            shown = b""
            while FIRST_STEP not in shown:
                try:
                    shown += os.read(ours, 4096)
                except OSError as error:  # the other side is closed
                    raise SystemExit(f"{command} ended early:\n{shown.decode()}") from error
            spent = time.perf_counter() - begun
            process.terminate()
        os.close(ours)
    return spent


def _say(values: tuple[float, ...]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


if __name__ == "__main__":
    main()
