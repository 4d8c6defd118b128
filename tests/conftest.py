"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and weights beside the project; tests skip where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("real data is not here: no folder 'shared' beside the project")
    return SHARED
