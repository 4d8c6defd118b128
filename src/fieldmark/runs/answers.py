"""What a classifier answers, in plain values: imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassProbability:
    """A class name and its probability."""

    label: str
    probability: float
