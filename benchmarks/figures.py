"""One line for each figure that was promised: product, peer, ratio, limit, and whether it is kept.

A benchmark hands its lines to `tell`; `run_all.py` gathers those of all parts in one table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

GATHERED_IN = "FIELDMARK_FIGURES"
HEADER = "| what | product | peer | ratio | limit | |\n|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Figure:
    """What was measured. ratio: of product and peer, or the measured value, as `limit` bounds it.

    limit: at least so much, or at most with `is_ceiling`. product, peer: with their units.
    """

    what: str
    product: str
    peer: str
    ratio: float
    limit: float
    is_ceiling: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether the ratio is within its limit."""
        return self.ratio <= self.limit if self.is_ceiling else self.ratio >= self.limit

    def as_row(self) -> str:
        """A line of a Markdown table."""
        bound = f"{'at most' if self.is_ceiling else 'at least'} {self.limit:g}"
        verdict = "kept" if self.is_kept else "missed"
        return (
            f"| {self.what} | {self.product} | {self.peer} | {self.ratio:.3g} | {bound} | "
            f"{verdict} |"
        )


def tell(figures: Sequence[Figure]) -> None:
    """Print a table of the figures, and hand them to the table of all parts."""
    print("\n".join(["", HEADER, *(figure.as_row() for figure in figures), ""]), flush=True)
    gathered = os.environ.get(GATHERED_IN)
    if gathered is not None:
        with Path(gathered).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(figure)) + "\n" for figure in figures)


def read_figures(path: Path) -> list[Figure]:
    """What all parts have told."""
    if not path.is_file():
        return []
    return [Figure(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
