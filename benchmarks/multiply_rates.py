"""How many numbers one core multiplies and adds a second, in registers and in matrix products.

python benchmarks/multiply_rates.py [--rounds 5]

Registers: chains of vfmadd231ps, vdpbf16ps and vpdpbusd on 512 bits (multiply_rates.c, compiled by
gcc): no network can be faster than that. Matrices: torch's products of square ones, the best size.
10^9 multiply-adds for each CPU second, the best of all rounds.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from shutil import which

import torch
from torch import Tensor

SOURCE = Path(__file__).with_suffix(".c")
STEPS, CHAINS = 20_000_000, 12
PER_INSTRUCTION = {"fp32": 16, "bf16": 32, "int8": 64}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
SIDES = (512, 1024, 2048)
LACKING = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    if platform.machine() != "x86_64" or which("gcc") is None:
        print("skipped: this needs an x86-64 processor and gcc")
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "multiply_rates"
        compiling = ["gcc", "-O2", "-o", str(program), str(SOURCE)]
        if subprocess.run(compiling, capture_output=True).returncode:
            print("skipped: this gcc cannot compile multiply_rates.c; 11 and later can")
            return
        rates = {
            kind: [
                (measure_registers(program, kind), measure_matrices(kind)) for _ in range(rounds)
            ]
            for kind in PER_INSTRUCTION
        }
    print("| numbers | registers, GMAC/s | matrices, GMAC/s |\n|---|---|---|")
    for kind, found in rates.items():
        registers, matrices = (max(rate) for rate in zip(*found, strict=True))
        shown = f"{registers:.0f}" if registers else "no such instruction"
        print(f"| {kind} | {shown} | {matrices:.0f} |")


def measure_registers(program: Path, kind: str) -> float:
    """GMAC/s of independent chains; 0 where the processor has no such instruction."""
    done = subprocess.run([str(program), kind, str(STEPS)], capture_output=True, text=True)
    if done.returncode == LACKING:
        return 0.0
    done.check_returncode()
    return STEPS * CHAINS * PER_INSTRUCTION[kind] / float(done.stdout) / 1e9


def measure_matrices(kind: str) -> float:
    """GMAC/s of torch's product of two square matrices."""
    multiply: Callable[[Tensor, Tensor], Tensor] = torch.mm
    if kind == "int8":
        multiply = torch._int_mm
    rates = []
    for side in SIDES:
        left, right = (torch.ones(side, side, dtype=TYPES[kind]) for _ in range(2))
        multiply(left, right)
        start = time.process_time()
        multiply(left, right)
        rates.append(side**3 / (time.process_time() - start) / 1e9)
    return max(rates)


if __name__ == "__main__":
    main()
