"""`PointStore`: the losses that were computed so far, so that nothing is computed twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldmark.runs.files import save_json

SECONDS_BETWEEN = 10.0
FORMAT = 1


@dataclass
class PointStore:
    """Losses of one landscape in a JSON file, NaN where there is none yet.

    about: all that the losses depend on; of another one they are not used. path: None keeps
    nothing.
    """

    path: Path | None
    about: Mapping[str, object]
    _saved_at: float = field(default=0.0)

    @classmethod
    def in_memory(cls) -> PointStore:
        """One that keeps nothing."""
        return cls(None, {})

    @classmethod
    def inside(cls, folder: Path, about: Mapping[str, object]) -> PointStore:
        """The file in `folder` whose name is told by `about`."""
        text = json.dumps(about, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        return cls(folder / f"landscape-{digest}.json", about)

    def load(self, count: int) -> NDArray[np.float64]:
        """(count,) losses; a file that cannot be used is computed anew."""
        empty = np.full(count, np.nan)
        if self.path is None or not self.path.is_file():
            return empty
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            losses = np.array([np.nan if v is None else v for v in content["losses"]], dtype=float)
        except (OSError, ValueError, KeyError, TypeError):
            return empty
        is_same = content.get("format") == FORMAT and content.get("about") == dict(self.about)
        return losses if is_same and losses.shape == (count,) else empty

    def save(self, losses: NDArray[np.float64], *, now: bool = False) -> None:
        """Write the file whole, not more often than every ten seconds unless `now`."""
        if self.path is None or (not now and time.monotonic() - self._saved_at < SECONDS_BETWEEN):
            return
        values = [None if np.isnan(value) else float(value) for value in losses]
        save_json(self.path, {"format": FORMAT, "about": dict(self.about), "losses": values})
        self._saved_at = time.monotonic()
