"""Images per second of the demo's recipe by threads of the network and loader processes.

python benchmarks/loader_processes.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

import fieldmark as fm
from fieldmark.data.samples import draw_sample
from fieldmark.training.events import EpochDone, Event


def measure(table: fm.Table, threads: int, workers: int) -> list[float]:
    """Images per second of epochs 2 to 4; the first one also warms up."""
    speeds: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, EpochDone):
            speeds.append(event.images_per_second)

    torch.set_num_threads(threads)
    settings = ["optim.epochs=4", "optim.batch_size=32", f"workers={workers}"]
    with tempfile.TemporaryDirectory() as folder:
        fm.train(table, overrides=settings, out=Path(folder) / "run", listener=listen)
    return speeds[1:]


if __name__ == "__main__":
    leaves = draw_sample("leaves", num_images=200)
    for threads, workers in [(2, 0), (2, 1), (1, 1), (1, 0)]:
        speeds = measure(leaves, threads, workers)
        print(f"| {threads} | {workers} | {min(speeds):.0f}-{max(speeds):.0f} |", flush=True)
