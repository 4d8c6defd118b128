"""How many cores there are to work with."""

from __future__ import annotations

import os


def num_cores() -> int:
    """Cores that this process may use, which a container or `taskset` makes fewer."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
