"""`StudyFolder`: the folder of a study, which holds its runs and what they say together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldmark.errors import RunExistsError, RunNotFoundError
from fieldmark.runs.files import render_csv, save_json, save_text, storage_errors


@dataclass(frozen=True)
class StudyFolder:
    """Paths and contents of a study; every file beside its runs is written through this class."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> StudyFolder:
        """Make the folder of a new study; an existing one that is not empty is refused."""
        folder = cls(path.absolute())
        folder.refuse_existing()
        with storage_errors(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        return folder

    @classmethod
    def open(cls, path: Path) -> StudyFolder:
        """Open a study to go on with."""
        folder = cls(path.absolute())
        if not folder.path.is_dir():
            raise RunNotFoundError(
                f"{folder.path}: there is no study to resume. Leave out --resume to start it"
            )
        if not folder.file_path.is_file() and any(folder.path.iterdir()):
            raise RunExistsError(
                f"{folder.path}: is not the folder of a study: it holds files, but no "
                f"{folder.file_path.name}. Give another `--out`"
            )
        return folder

    def refuse_existing(self) -> None:
        """Raise `RunExistsError` where there is something already."""
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise RunExistsError(
                f"{self.path}: is already there. Go on with it by `--resume`, or give another "
                "`--out`"
            )

    @property
    def file_path(self) -> Path:
        """The study file, with every key."""
        return self.path / "study.yaml"

    @property
    def runs_dir(self) -> Path:
        """The run folders."""
        return self.path / "runs"

    @property
    def cache_dir(self) -> Path:
        """Stored features and decoded images, which the runs share."""
        return self.path / "cache"

    @property
    def results_path(self) -> Path:
        """Scores, comparison and runs."""
        return self.path / "study.json"

    @property
    def table_path(self) -> Path:
        """One line a run: settings, seed, scores."""
        return self.path / "table.csv"

    def save_file(self, text: str) -> None:
        """Write study.yaml."""
        save_text(self.file_path, text)

    def save_results(self, results: Mapping[str, Any]) -> None:
        """Write study.json."""
        save_json(self.results_path, results)

    def save_table(self, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write table.csv."""
        save_text(self.table_path, render_csv(header, rows))
