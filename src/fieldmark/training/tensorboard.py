"""The epochs of a run as TensorBoard files, where TensorBoard is installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class EpochBoard:
    """Writes the numbers of each epoch; without the extra `tensorboard` it writes nothing."""

    def __init__(self, folder: Path, *, epochs_done: int) -> None:
        """Go on after `epochs_done` epochs; later ones that a killed run wrote are hidden."""
        self.writer = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epochs_done + 1)

    def write(self, line: Mapping[str, Any]) -> None:
        """Write one line of metrics.jsonl."""
        if self.writer is None:
            return
        for name, value in line.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, line["epoch"])
        self.writer.flush()

    def close(self) -> None:
        """Finish the file."""
        if self.writer is not None:
            self.writer.close()
