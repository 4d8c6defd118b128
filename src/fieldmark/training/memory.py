"""When a batch does not fit: say which one would."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from fieldmark.errors import OutOfMemoryError


@contextmanager
def explain_out_of_memory(batch_size: int, attempt: Callable[[int], None]) -> Iterator[None]:
    """Turn running out of memory into an error that names a batch size which fits.

    `attempt(n)` must compute forward and backward of the first n images and change no weights.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
    else:
        return
    # Outside of `except`, so that the traceback no longer holds the tensors that did not fit.
    fitting = _largest_fitting(batch_size // 2, attempt)
    if fitting == 0:
        advice = "not even one image fits: choose a smaller data.image_size or model.name"
    else:
        parts = -(-batch_size // fitting)
        advice = (
            f"{fitting} images fit: set optim.batch_size={fitting} and optim.accumulate={parts} "
            "for the same number of images per update"
        )
    raise OutOfMemoryError(
        f"a batch of {batch_size} images does not fit in memory ({reason}); {advice}"
    )


def _largest_fitting(batch_size: int, attempt: Callable[[int], None]) -> int:
    while batch_size >= 1:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if _fits(batch_size, attempt):
            return batch_size
        batch_size //= 2
    return 0


def _fits(batch_size: int, attempt: Callable[[int], None]) -> bool:
    try:
        attempt(batch_size)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that there was not enough memory, on any device."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(
        sign in text for sign in ("can't allocate memory", "not enough memory", "bad_alloc")
    )
