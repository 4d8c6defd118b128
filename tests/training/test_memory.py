from __future__ import annotations

import pytest

from fieldmark.errors import OutOfMemoryError
from fieldmark.training.memory import explain_out_of_memory

FULL = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


def attempt_up_to(limit: int):
    def attempt(count: int) -> None:
        if count > limit:
            raise RuntimeError(FULL)

    return attempt


@pytest.mark.parametrize(("limit", "fitting", "parts"), [(20, 16, 4), (5, 4, 16), (1, 1, 64)])
def test_error_names_the_batch_that_fits(limit: int, fitting: int, parts: int) -> None:
    told = f"optim.batch_size={fitting} and optim.accumulate={parts}"
    with (
        pytest.raises(OutOfMemoryError, match=told),
        explain_out_of_memory(64, attempt_up_to(limit)),
    ):
        raise RuntimeError(FULL)


def test_error_says_when_nothing_fits() -> None:
    with (
        pytest.raises(OutOfMemoryError, match="not even one image"),
        explain_out_of_memory(64, attempt_up_to(0)),
    ):
        raise RuntimeError(FULL)


def test_other_errors_pass_untouched() -> None:
    with (
        pytest.raises(RuntimeError, match="shapes"),
        explain_out_of_memory(4, attempt_up_to(4)),
    ):
        raise RuntimeError("shapes do not match")
