"""`RunFolder`: the folder that holds everything about one run, and the names inside it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.data.prepare import LeftOut
from fieldmark.data.table import Table
from fieldmark.errors import RunChangedError, RunExistsError, RunNotFoundError
from fieldmark.recipes import Recipe, read_recipe, render_recipe
from fieldmark.runs.files import (
    find_folder,
    render_csv,
    save_bytes,
    save_json,
    save_text,
    storage_errors,
)

if TYPE_CHECKING:
    from fieldmark.data.tags import TagVocabulary


@dataclass(frozen=True)
class RunFolder:
    """Paths and contents of `runs/<name>`; every file of a run is written through this class."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make a new run folder; an existing one that is not empty is refused."""
        path = path.absolute()
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunExistsError(
                f"{path}: is already there. Go on with it by `--resume`, or give another `--out`"
            )
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run folder."""
        folder = cls(path.absolute())
        if not folder.recipe_path.is_file():
            raise RunNotFoundError(_not_a_run(folder.path))
        return folder

    @property
    def recipe_path(self) -> Path:
        """The fully resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def split_path(self) -> Path:
        """Image, label, split and content hash of every row."""
        return self.path / "split.csv"

    @property
    def metrics_path(self) -> Path:
        """One JSON line per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def log_path(self) -> Path:
        """Warnings of the libraries below, and notes."""
        return self.path / "log.txt"

    @property
    def profile_path(self) -> Path:
        """Where the time went, of a run that was watched."""
        return self.path / "profile.json"

    @property
    def trace_path(self) -> Path:
        """A few steps of a watched run, call by call, in Chrome's trace format."""
        return self.path / "profile-trace.json"

    @property
    def last_dir(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "checkpoints" / "last"

    @property
    def teacher_dir(self) -> Path:
        """What a teacher says of every training image, where it is asked once."""
        return self.path / "teacher"

    @property
    def features_dir(self) -> Path:
        """What a frozen backbone makes of the images, where no `cache` keeps it."""
        return self.path / "features"

    @property
    def decoded_dir(self) -> Path:
        """Decoded images, while the run trains."""
        return self.path / "decoded"

    @property
    def figures_dir(self) -> Path:
        """Figures as PNG and SVG."""
        return self.path / "figures"

    @property
    def best_dir(self) -> Path:
        """Weights and configuration of the selected epoch."""
        return self.path / "best"

    @property
    def calibration_path(self) -> Path:
        """Temperature, thresholds of label sets and of "unknown"."""
        return self.path / "calibration.json"

    @property
    def ensemble_path(self) -> Path:
        """Members and weights, where the run is an ensemble of runs."""
        return self.path / "ensemble.json"

    def predictions_path(self, split: str) -> Path:
        """The stored predictions of a split."""
        return self.path / "predictions" / f"{split}.parquet"

    def save_recipe(self, recipe: Recipe) -> None:
        """Write recipe.yaml."""
        save_text(self.recipe_path, render_recipe(recipe))

    def load_recipe(self) -> Recipe:
        """Read recipe.yaml."""
        return read_recipe(self.recipe_path)

    def save_classes(self, table: Table) -> None:
        """Write classes.json: names in index order, and images per class and split."""
        splits = {split: table.select(split).class_counts() for split in ("train", "val", "test")}
        save_json(
            self.path / "classes.json",
            {
                "task": table.task,
                "classes": [
                    {"name": name, **{split: counts[name] for split, counts in splits.items()}}
                    for name in table.class_names
                ],
            },
        )

    def load_classes(self) -> list[dict[str, Any]]:
        """The classes in index order, each with its name and counts by split."""
        content = json.loads((self.path / "classes.json").read_text(encoding="utf-8"))
        return list(content["classes"])

    def load_train_counts(self) -> tuple[int, ...]:
        """Training images of each class, in index order."""
        return tuple(int(entry["train"]) for entry in self.load_classes())

    def save_tags(self, vocabulary: TagVocabulary) -> None:
        """Write tags.json, which freezes what each token of a tag means."""
        save_json(self.path / "tags.json", vocabulary.to_json())

    def load_tags(self) -> TagVocabulary | None:
        """Read tags.json; None where there is none yet."""
        from fieldmark.data.tags import TagVocabulary

        path = self.path / "tags.json"
        if not path.is_file():
            return None
        try:
            return TagVocabulary.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunChangedError(
                f"{path}: is not a tag vocabulary of fieldmark or was changed: {error}. "
                "Restore it, or train a new run"
            ) from error

    def save_calibration(self, calibration: Mapping[str, Any]) -> Path:
        """Write calibration.json: what validation images taught about the probabilities."""
        save_json(self.calibration_path, calibration)
        return self.calibration_path

    def load_calibration(self) -> dict[str, Any] | None:
        """Read calibration.json; None where there is none."""
        if not self.calibration_path.is_file():
            return None
        try:
            return dict(json.loads(self.calibration_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise RunChangedError(
                f"{self.calibration_path}: cannot be read: {error}. "
                f"`fieldmark evaluate {self.path} --calibrate` writes it anew"
            ) from error

    @classmethod
    def create_ensemble(
        cls, path: Path, first: RunFolder, ensemble: Mapping[str, Any]
    ) -> RunFolder:
        """Make the folder of an ensemble, with the classes and the split of its first member."""
        folder = cls.create(path)
        members = ", ".join(member["name"] for member in ensemble["members"])
        recipe = first.load_recipe()
        described = recipe.model_copy(update={"description": f"ensemble of {members}"})
        folder.save_recipe(described)
        for name in ("classes.json", "split.csv"):
            save_bytes(folder.path / name, (first.path / name).read_bytes())
        save_json(folder.ensemble_path, ensemble)
        return folder

    def save_split(self, table: Table, content_hashes: Mapping[str, str]) -> None:
        """Write split.csv, which freezes what each image was used for; groups where any are."""
        header: tuple[str, ...] = ("image", "label", "split", "content_hash", "group")
        if all(row.group is None for row in table.rows):
            header = header[:-1]
        rows = [
            (r.image, r.label, r.split, content_hashes[r.image], r.group or "")[: len(header)]
            for r in table.rows
        ]
        save_text(self.split_path, render_csv(header, rows))

    def load_split(self) -> list[dict[str, str]]:
        """The rows of split.csv."""
        with self.split_path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return list(csv.DictReader(file))

    def load_content_hashes(self) -> dict[str, str]:
        """Image -> hash of the bytes that the split was frozen with."""
        return {row["image"]: row["content_hash"] for row in self.load_split()}

    def restore_table(self, table: Table) -> Table:
        """Give the rows of a newly read table their frozen split; changed labels are refused."""
        current = {row.image: row for row in table.rows}
        frozen = self.load_split()
        gone = [r["image"] for r in frozen if r["image"] not in current]
        relabelled = [
            f"{r['image']} ({r['label']} -> {current[r['image']].label})"
            for r in frozen
            if r["image"] in current and current[r["image"]].label != r["label"]
        ]
        for what, images in (("no longer in", gone), ("labelled otherwise in", relabelled)):
            if images:
                raise RunChangedError(
                    f"{self.path}: {len(images)} of its {len(frozen)} images are {what} "
                    f"{table.source}: {', '.join(images[:5])}. Restore the data, or train a new run"
                )
        rows = [replace(current[r["image"]], split=r["split"]) for r in frozen]
        names = tuple(entry["name"] for entry in self.load_classes())
        return replace(table, rows=tuple(rows), class_names=names, notes=())

    def verify_images(self, table: Table, content_hashes: Mapping[str, str]) -> None:
        """Refuse images whose bytes are not those the split was frozen with."""
        frozen = self.load_content_hashes()
        changed = [r.image for r in table.rows if content_hashes[r.image] != frozen[r.image]]
        if changed:
            raise RunChangedError(
                f"{self.path}: {len(changed)} images have changed since the run was made: "
                f"{', '.join(changed[:5])}. Restore them, or train a new run"
            )

    def save_left_out(self, left_out: Iterable[LeftOut]) -> None:
        """Write left_out.csv: images that are not used, each with its reason."""
        rows = [(entry.image, entry.label, entry.reason) for entry in left_out]
        save_text(self.path / "left_out.csv", render_csv(("image", "label", "reason"), rows))

    def load_left_out(self) -> list[LeftOut]:
        """The rows of left_out.csv."""
        path = self.path / "left_out.csv"
        if not path.is_file():
            return []
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return [LeftOut(**row) for row in csv.DictReader(file)]

    def save_environment(self, environment: Mapping[str, Any]) -> None:
        """Write environment.json."""
        save_json(self.path / "environment.json", environment)

    def load_environment(self) -> dict[str, Any]:
        """Versions, hardware, command, seconds and memory of the run; empty before its end."""
        path = self.path / "environment.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def save_profile(self, profile: Mapping[str, Any]) -> None:
        """Write profile.json."""
        save_json(self.profile_path, profile)

    def save_metrics(self, epochs: Iterable[Mapping[str, Any]]) -> None:
        """Write metrics.jsonl anew, one line per epoch."""
        save_text(self.metrics_path, "".join(json.dumps(dict(e)) + "\n" for e in epochs))

    def load_metrics(self) -> list[dict[str, Any]]:
        """The epochs of metrics.jsonl."""
        if not self.metrics_path.is_file():
            return []
        return [json.loads(line) for line in self.metrics_path.read_text().splitlines()]

    def discard_unless_trained(self) -> None:
        """Remove a run that stopped before it had any weights, so that its name is free again."""
        if find_folder(self.last_dir) is None and find_folder(self.best_dir) is None:
            shutil.rmtree(self.path)

    def drop_weights(self) -> None:
        """Remove the weights of a run whose predictions are all that is wanted of it."""
        shutil.rmtree(self.best_dir, ignore_errors=True)
        self.drop_checkpoint()

    def drop_checkpoint(self) -> None:
        """Remove what a finished run would have gone on from."""
        shutil.rmtree(self.last_dir.parent, ignore_errors=True)

    def drop_decoded(self) -> None:
        """Remove the decoded images of a run that has finished."""
        shutil.rmtree(self.decoded_dir, ignore_errors=True)

    def find_best(self) -> Path:
        """The folder with the selected weights; a run that has none yet is refused."""
        best = find_folder(self.best_dir)
        if best is None and self.ensemble_path.is_file():
            raise RunNotFoundError(
                f"{self.path}: is an ensemble, which keeps predictions and no weights. Ask its "
                f"members, which {self.ensemble_path.name} names"
            )
        if best is None:
            raise RunNotFoundError(
                f"{self.path}: has no weights yet: no epoch was finished. Finish it by "
                "`fieldmark train ... --resume`"
            )
        return best


def _not_a_run(path: Path) -> str:
    if not path.exists():
        siblings = path.parent.iterdir() if path.parent.is_dir() else []
        runs = sorted(p.name for p in siblings if (p / "recipe.yaml").is_file())
        others = f" Runs beside it: {', '.join(runs[:8])}." if runs else ""
        return f"{path}: there is no such run folder.{others} `fieldmark train DATA` makes one"
    return f"{path}: is not a run folder: it holds no recipe.yaml. `fieldmark train DATA` makes one"
