"""Convolutions of small maps in bf16: images one by one against side by side on one wide map.

python benchmarks/small_maps.py [--batch 32] [--threads 1] [--turns 9]

Forward and backward of single layers, in turns; CPU milliseconds, medians. The product lays side
by side where the processor multiplies in tiles (AMX); this measures it on any.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from fieldmark.models.side_by_side import SideBySideConv2d, multiplies_in_tiles

# Channels in and out, side of the map that goes in, stride: of ResNet-18 at 64, 128 and 224 px.
LAYERS = ((512, 512, 2, 1), (512, 512, 4, 1), (256, 512, 8, 2), (512, 512, 7, 1), (256, 512, 14, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"batch {given.batch}, {given.threads} threads, AMX for bf16: {multiplies_in_tiles()}\n")
    print("| channels, map, stride | one by one | side by side | gain |\n|---|---|---|---|")
    for channels_in, channels_out, side, stride in LAYERS:
        plain = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        ways = [
            build_step(layer, side, given.batch) for layer in (plain, SideBySideConv2d.of(plain))
        ]
        seconds = take_turns(ways, given.turns)
        one, wide = (1000 * statistics.median(spent) for spent in seconds)
        gain = statistics.median(a / b for a, b in zip(*seconds, strict=True))
        name = f"{channels_in} to {channels_out}, {side} x {side}, {stride}"
        print(f"| {name} | {one:.1f} ms | {wide:.1f} ms | {gain:.2f}x |", flush=True)


def build_step(layer: nn.Conv2d, side: int, batch: int) -> Callable[[], None]:
    """Forward and backward, with the casts of autocast."""
    maps = torch.randn(batch, layer.in_channels, side, side).to(memory_format=torch.channels_last)
    maps = maps.to(torch.bfloat16).requires_grad_()
    layer.train()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(maps)
        found.backward(torch.ones_like(found))
        layer.weight.grad = maps.grad = None

    return step


def take_turns(ways: list[Callable[[], None]], turns: int) -> list[list[float]]:
    """CPU seconds of each way in each turn; two turns warm up."""
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(turns + 2):
        for way, spent in zip(ways, seconds, strict=True):
            start = time.process_time()
            way()
            if turn > 1:
                spent.append(time.process_time() - start)
    return seconds


if __name__ == "__main__":
    main()
