"""Packages that only some ways of running a network need."""

from __future__ import annotations

from importlib.util import find_spec

from fieldmark.errors import ExportError


def has_package(name: str) -> bool:
    """Whether it is installed; nothing is imported."""
    return find_spec(name) is not None


def need_package(name: str, *, extra: str, what: str) -> None:
    """Raise `ExportError` with the command that installs what is missing."""
    if not has_package(name):
        raise ExportError(
            f"{what} needs the package {name}, which is not installed: "
            f"pip install 'fieldmark[{extra}]'"
        )
