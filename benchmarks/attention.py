"""Attention in bf16 on this processor: torch's fused one against two products and a softmax.

python benchmarks/attention.py [--sizes 32x65 8x197 2x1025] [--repeats 15] [--threads 1]

Sizes are images x tokens; heads as those of ViT-tiny, 3 of width 64. CPU milliseconds, forward and
backward, medians of turns in which both follow each other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

NUM_HEADS, WIDTH = 3, 64
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["32x65", "8x197", "2x1025"])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ways: list[Attend] = [functional.scaled_dot_product_attention, multiply_out]
    print("| images x tokens | fused: forward + backward, ms | multiplied out | times as fast |")
    print("|---|---|---|---|")
    for size in options.sizes:
        num_images, num_tokens = map(int, size.split("x"))
        found: list[list[tuple[float, float]]] = [[], []]
        for turn in range(options.repeats + 1):
            for way, times in zip(ways, found, strict=True):
                spent = measure(way, num_images, num_tokens)
                if turn:
                    times.append(spent)
        (fused, fused_back), (plain, plain_back) = (
            (statistics.median(part) for part in zip(*times, strict=True)) for times in found
        )
        print(
            f"| {size} | {fused:.1f} + {fused_back:.1f} | {plain:.1f} + {plain_back:.1f} | "
            f"{(fused + fused_back) / (plain + plain_back):.2f} |",
            flush=True,
        )


def multiply_out(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """As timm and `models/vit/attention.py` do it where attention is not fused."""
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    return scores.softmax(dim=-1) @ values


def measure(attend: Attend, num_images: int, num_tokens: int) -> tuple[float, float]:
    """CPU ms of forward and of backward."""
    shape = (num_images, NUM_HEADS, num_tokens, WIDTH)
    inputs = [torch.randn(shape).bfloat16().requires_grad_() for _ in range(3)]
    start = time.process_time()
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(*inputs)
    middle = time.process_time()
    out.backward(torch.ones_like(out))
    return 1e3 * (middle - start), 1e3 * (time.process_time() - middle)


if __name__ == "__main__":
    main()
