"""What the processor computes in 8 bits."""

from __future__ import annotations

import torch

from fieldmark.errors import ExportError

_INT8 = ("avx512_vnni", "avx_vnni", "amx_int8", "dot", "i8mm")


def computes_int8() -> bool:
    """Whether it multiplies 8-bit numbers in one instruction (VNNI, AMX, Arm's dot product)."""
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.11
        return bool(torch.cpu._is_vnni_supported())
    found = torch.cpu.get_capabilities()
    return any(bool(found.get(name)) for name in _INT8)


def check_int8() -> None:
    """Refuse int8 on a machine without the instructions; raise `ExportError`."""
    if not computes_int8():
        raise ExportError(
            "--precision int8: this processor has no instructions for 8-bit products (avx512_vnni, "
            "avx_vnni, amx_int8 or Arm dotprod), so int8 would be slower than fp32 and could not "
            "be proved here. Export on a machine that has them, or use --precision fp32"
        )
