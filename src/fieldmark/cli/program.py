"""The program `fieldmark`: one command in a process of its own."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
from typing import NoReturn

from fieldmark.cli.app import main

# Importing torch makes a million objects, none of which is garbage: Python's own threshold of 700
# looks through them again and again, for a fifth of the time until the first step.
_OBJECTS_UNTIL_COLLECTED = 50_000


def run() -> NoReturn:
    """Run the command that was typed, and end."""
    gc.set_threshold(_OBJECTS_UNTIL_COLLECTED)
    code: str | int | None = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    _leave(code if isinstance(code, int) else int(code is not None))


def _leave(code: int) -> NoReturn:
    """End without taking torch's modules apart, which takes longer than most commands wait."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError, ValueError):  # closed on either side
            stream.flush()
    os._exit(code)
