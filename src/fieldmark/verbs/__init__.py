"""The public verbs of the Python interface; the command line calls the same ones.

Names are resolved on first use: `check` needs no torch, and importing it must not cost any.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fieldmark.verbs.audit import Check, check
    from fieldmark.verbs.comparing import compare
    from fieldmark.verbs.exporting import export
    from fieldmark.verbs.inspecting import inspect
    from fieldmark.verbs.run import Evaluation, Run, load_run
    from fieldmark.verbs.training import train

__all__ = [
    "Check",
    "Evaluation",
    "Run",
    "check",
    "compare",
    "export",
    "inspect",
    "load_run",
    "train",
]

_HOMES = {
    "Check": "fieldmark.verbs.audit",
    "Evaluation": "fieldmark.verbs.run",
    "Run": "fieldmark.verbs.run",
    "check": "fieldmark.verbs.audit",
    "compare": "fieldmark.verbs.comparing",
    "export": "fieldmark.verbs.exporting",
    "inspect": "fieldmark.verbs.inspecting",
    "load_run": "fieldmark.verbs.run",
    "train": "fieldmark.verbs.training",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fieldmark.verbs' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
