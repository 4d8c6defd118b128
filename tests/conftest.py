"""Fixtures that every test may use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fieldmark.cli import main

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and weights beside the project; tests skip where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("real data is not here: no folder 'shared' beside the project")
    return SHARED


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict]:
    """Run a command with --json: on stdout must be one JSON object and nothing else."""

    def run(*words: object) -> dict:
        main([*map(str, words), "--json", "--quiet"])
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail as the user's fault, and return what it says."""

    def run(*words: object) -> str:
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        assert caught.value.code == 2
        told = capsys.readouterr().err
        assert "Traceback" not in told
        return told

    return run


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


# Not for the whole session: Playwright keeps an event loop running in this thread, and while it
# does, no other test could start its own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium without a window; tests skip where none is installed."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="no browser tests: playwright is not installed"
    )
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser tests: none of {', '.join(BROWSERS)} is on the PATH")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a file, or an address, in a window of its own with these options.

    At the end of the test every such page must have asked nothing of a network, logged no error
    and shown no dialog.
    """
    contexts, faults = [], []

    def start(address: Path | str, **options: Any) -> Page:
        context = browser.new_context(**{"reduced_motion": "reduce", **options})
        contexts.append(context)
        page = context.new_page()
        start = address.absolute().as_uri() if isinstance(address, Path) else address
        inside = (start, "data:") if isinstance(address, Path) else (start, "data:", "blob:")
        page.on("request", lambda asked: asked.url.startswith(inside) or faults.append(asked.url))
        page.on("console", lambda said: said.type == "error" and faults.append(said.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda shown: (faults.append(shown.message), shown.dismiss()))
        page.goto(start)
        return page

    yield start
    for context in contexts:
        context.close()
    assert faults == []
