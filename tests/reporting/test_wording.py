from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.reporting.wording import (
    nice_ticks,
    say_count,
    say_duration,
    say_number,
    say_share,
    shorten,
)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_reach_around_the_values(low: float, width: float, count: int) -> None:
    ticks = nice_ticks(low, low + width, count)
    step = ticks[1] - ticks[0]
    reach = 1e-6 * step + 2 * math.ulp(max(abs(low), abs(low + width)))
    assert ticks[0] <= low + reach and ticks[-1] >= low + width - reach
    assert 2 <= len(ticks) <= 2 * count + 1


def test_ticks_are_round() -> None:
    assert nice_ticks(0.0, 1.0) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert nice_ticks(0.0, 0.0) == nice_ticks(0.0, 1.0)
    assert nice_ticks(0.31, 0.88) == [0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(4.24, "4.2 s"), (59.98, "1 min 0 s"), (340, "5 min 40 s"), (7300, "2 h 1 min")],
)
def test_durations_are_told_in_two_units(seconds: float, told: str) -> None:
    assert say_duration(seconds) == told


def test_numbers_are_set_with_care() -> None:
    assert say_count(12345) == "12\u202f345"
    assert say_share(0.8734) == "87.3\u202f%"
    assert say_number(-0.5) == "\u22120.500"
    assert shorten("Acer pseudoplatanus", 10) == "Acer pseu\u2026"
