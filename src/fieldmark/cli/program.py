"""The program `fieldmark`: one command in a process of its own."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import os
import sys
from typing import NoReturn

from fieldmark.cli.app import main

# Importing torch makes a million objects, none of which is garbage: Python's own threshold of 700
# looks through them again and again, for a fifth of the time until the first step.
_OBJECTS_UNTIL_COLLECTED = 50_000

# glibc gives every large block back to the system when it is freed, so each picture and each layer
# gets new pages, which the system clears one by one. Numbers as in malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_BYTES_KEPT = 2**28


def run() -> NoReturn:
    """Run the command that was typed, and end."""
    gc.set_threshold(_OBJECTS_UNTIL_COLLECTED)
    keep_freed_memory()
    code: str | int | None = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    _leave(code if isinstance(code, int) else int(code is not None))


def keep_freed_memory() -> None:
    """Let freed memory be used again without asking the system, where malloc is glibc's."""
    is_set_by_user = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if sys.platform != "linux" or is_set_by_user:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        # An older glibc refuses the first, which then stays as it was.
        mallopt(_M_MMAP_THRESHOLD, _BYTES_KEPT)
        mallopt(_M_TRIM_THRESHOLD, _BYTES_KEPT)


def _leave(code: int) -> NoReturn:
    """End without taking torch's modules apart, which takes longer than most commands wait."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError, ValueError):  # closed on either side
            stream.flush()
    os._exit(code)
