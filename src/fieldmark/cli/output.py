"""What a person sees: results on stdout, progress and notes on stderr, or one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

from cyclopts import Parameter
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

INPUT_AT_FAULT = 2
"""Exit code for what the user can mend."""


@Parameter(name="*")
@dataclass(frozen=True)
class Output:
    """How a command answers."""

    json: bool = False
    "One JSON object on stdout and nothing else; progress goes to stderr."
    quiet: bool = False
    "No progress and no notes."

    def tell(self, text: str) -> None:
        """A line about what is going on."""
        if not self.quiet:
            stderr().print(Text(text), highlight=False, soft_wrap=True)

    def answer(self, result: Mapping[str, object], *shown: str | Table | Text) -> None:
        """The result: as JSON, or as what a person reads."""
        if self.json:
            sys.stdout.write(json.dumps(result, ensure_ascii=False, allow_nan=False) + "\n")
            return
        console = Console(highlight=False)
        for part in shown:
            plain = Text(part) if isinstance(part, str) else part
            console.print(plain, soft_wrap=isinstance(plain, Text))

    @contextmanager
    def counting(self, what: str) -> Iterator[Counter]:
        """A bar on a terminal, nothing elsewhere, for work counted in images."""
        console = stderr()
        hidden = self.quiet or not console.is_terminal
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=hidden,
        )
        with bar:
            yield Counter(bar, bar.add_task(what, total=None))


@dataclass(frozen=True)
class Counter:
    """Moves a bar."""

    bar: Progress
    task: TaskID

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` images are done."""
        self.bar.update(self.task, completed=done, total=total)

    def show(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of something are done."""
        self.bar.update(self.task, completed=done, total=total, description=what)


@contextmanager
def stdout_for_results() -> Iterator[None]:
    """Whatever a library prints while it works goes to stderr."""
    with redirect_stdout(sys.stderr):
        yield


def stderr() -> Console:
    """The console for everything that is not the result."""
    return Console(stderr=True)


def fail(error: Exception, *, as_json: bool) -> int:
    """Tell an error and return the exit code."""
    text = str(error)
    if as_json:
        kind = type(error).__name__
        sys.stdout.write(json.dumps({"error": {"type": kind, "message": text}}) + "\n")
    complain(text)
    return INPUT_AT_FAULT


def complain(text: str) -> None:
    """Tell on stderr what is wrong."""
    # Bytes that are not text can stand in a file name; they must not hide the message.
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    sys.stderr.write(f"fieldmark: {safe}\n")
