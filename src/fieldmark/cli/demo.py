"""`fieldmark demo`."""

from __future__ import annotations

from pathlib import Path

from fieldmark.cli.output import Output
from fieldmark.cli.train import train


def demo(*, out: Path = Path("runs/demo"), output: Output = Output()) -> None:
    """Draw sample leaves, train on them and evaluate: the main job in a minute.

    The same as `fieldmark train sample:leaves --recipe quick`.

    Parameters
    ----------
    out
        The run folder; an existing one is refused.
    """
    train("sample:leaves", recipe="quick", out=out, output=output)
    output.tell(f"next     fieldmark evaluate {out} --split val; fieldmark train YOUR_FOLDER")
