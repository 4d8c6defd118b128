"""What surrounds a run in its process: warnings and the random state of the caller."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fieldmark.runs.folder import RunFolder


@contextmanager
def quiet_libraries(folder: RunFolder) -> Iterator[None]:
    """Send the warnings of the libraries below to the run's log instead of the screen."""
    handler = logging.FileHandler(folder.log_path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("py.warnings")
    logger.addHandler(handler)
    propagated, logger.propagate = logger.propagate, False
    shown = warnings.showwarning
    warnings.showwarning = lambda message, category, *_, **__: logger.warning(
        "%s: %s", category.__name__, message
    )
    try:
        yield
    finally:
        warnings.showwarning = shown
        logger.propagate = propagated
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def own_randomness() -> Iterator[None]:
    """Leave the caller's random state as it was."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=list(devices)):
        yield
