"""What the machine could do at best: its rates of matrix products and of copying memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fieldmark.planning.bench.timing import time_work

MATRIX_SIDES = (512, 1024, 2048)
COPIED_BYTES = 256 * 2**20
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class MachineLimits:
    """Rates measured on the spot.

    matmul_gflops: of square matrix products in the precision at hand, best of several sizes,
        10^9 operations a second (a multiply-add is two). memory_gb_per_second: bytes read and
        written while a large array is copied, 10^9 a second.
    """

    device: str
    precision: str
    threads: int
    matmul_gflops: float
    memory_gb_per_second: float

    @property
    def said_threads(self) -> str:
        """The number of threads in words."""
        return f"{self.threads} thread{'' if self.threads == 1 else 's'}"


def measure_limits(device: str, precision: str, *, seconds: float = 0.3) -> MachineLimits:
    """Measure both rates; each size is repeated for about `seconds`."""
    return MachineLimits(
        device=device,
        precision=precision,
        threads=torch.get_num_threads(),
        matmul_gflops=max(
            _measure_product(side, device, precision, seconds) for side in MATRIX_SIDES
        ),
        memory_gb_per_second=_measure_copy(device, seconds),
    )


def _measure_product(side: int, device: str, precision: str, seconds: float) -> float:
    kind = _TYPES[precision]
    left, right = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    out = torch.empty(side, side, device=device, dtype=kind)
    timing = time_work(lambda: torch.mm(left, right, out=out), device=device, seconds=seconds)
    return 2 * side**3 / timing.median / 1e9


def _measure_copy(device: str, seconds: float) -> float:
    source = torch.ones(COPIED_BYTES // 4, device=device)
    target = torch.zeros_like(source)
    timing = time_work(lambda: target.copy_(source), device=device, seconds=seconds)
    return 2 * COPIED_BYTES / timing.median / 1e9
