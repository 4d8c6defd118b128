"""`fieldmark predict`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich import box
from rich.table import Table

from fieldmark.cli.output import INPUT_AT_FAULT, Output, complain, stdout_for_results
from fieldmark.errors import FieldmarkError

if TYPE_CHECKING:
    from fieldmark.evaluation.answers import PredictedRow
    from fieldmark.evaluation.caution import Asked
    from fieldmark.exporting.backends import Choice
    from fieldmark.exporting.file_runtimes import FileChoice

DEFAULT_TAGS = 10
UNKNOWN = "unknown"


def predict(
    run: Path,
    inputs: Annotated[list[str], Parameter(name="IMAGE")],
    /,
    *,
    top: int = 5,
    tags: Annotated[tuple[int, ...] | None, Parameter(consume_multiple=True)] = None,
    sets: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True)] = None,
    reject: Annotated[tuple[float, ...] | None, Parameter(consume_multiple=True)] = None,
    reject_by: str = "probability",
    calibrated: bool = False,
    out: Path | None = None,
    column: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    image_root: str | None = None,
    allow_outside: bool = False,
    backend: str = "auto",
    output: Output = Output(),
) -> int:
    """Classify image files, folders and tables; results come in input order.

    Parameters
    ----------
    run
        A run folder, or what `fieldmark export` made of one: the .onnx file or its folder.
    inputs
        Image files, folders of images, or tables with an `image` column.
    top
        Classes per image. 0 with --out: only the columns image,label.
    tags
        Also propose so many tags per image (without a number: 10), for a run that learned to
        (model.tags.propose). Give it behind the images.
    sets
        Also give each image the classes that hold the true one with the coverage that `evaluate
        --calibrate` was asked for: by lac (without a word), aps or raps. Give it behind the images.
    reject
        Say "unknown" where the score is below this threshold; without a number below the stored
        one, from `evaluate --calibrate`. Give it behind the images.
    reject_by
        The score: probability (of the first class) or energy (log sum exp of the logits).
    calibrated
        Probabilities are those at the stored temperature, also for --reject. Label sets stay.
    out
        Write a .csv with the columns image,label,p1,p2,... (and tags, where they are proposed)
        instead of printing each image.
    column
        Columns of the table by role, e.g. image=path.
    image_root
        The folder that image paths of a table are relative to.
    allow_outside
        Accept image paths that leave that folder.
    backend
        What computes: auto, eager, bf16, compiled, onnxruntime, openvino or openvino-bf16. auto
        tries them on a few images and takes the fastest that decides alike, with probabilities
        within 0.02 of eager's; images that a fast one is not sure of may be computed again by an
        exact one. Of an exported file: onnxruntime, openvino or openvino-bf16; auto takes the
        fastest that agreed in the proof of the export.
    """
    from fieldmark.runs.files import render_csv, save_text

    columns = dict(pair.partition("=")[::2] for pair in column)
    with stdout_for_results(), output.counting("predicting") as counter:
        chosen = _Chosen(backend)
        asked: Asked = {
            "sets": _set_method(sets),
            "reject": _threshold(reject),
            "reject_by": reject_by,
            "calibrated": calibrated,
        }
        rows = _open(run, _num_tags(tags), chosen, asked)(
            inputs,
            top=1 if out is not None and top == 0 else top,
            columns=columns,
            image_root=image_root,
            allow_outside=allow_outside,
            progress=counter,
        )
    output.tell(chosen.sentence)
    if out is not None:
        save_text(out, render_csv(*_as_csv(rows, top)))
    result: dict[str, object] = {"predictions": [_as_json(row) for row in rows]}
    result["backend"] = chosen.about
    failed = [row for row in rows if row.error is not None]
    summary = f"{len(rows) - len(failed)} images classified, {len(failed)} unreadable"
    if reject is not None:
        summary += f", {sum(bool(row.unknown) for row in rows)} unknown"
    if out is not None:
        errors = [f"error    {row.image}: {row.error}" for row in failed]
        output.answer({**result, "out": str(out)}, *errors, f"{summary}; written to {out}")
    else:
        output.answer(result, _as_table(rows), summary)
    if rows and len(failed) == len(rows):
        complain(f"none of the {len(rows)} images could be read")  # why stands with each image
        return INPUT_AT_FAULT
    return 0


@dataclass
class _Chosen:
    """What is asked to compute, and what is known of it afterwards."""

    wanted: str
    about: Mapping[str, object] = field(default_factory=dict)
    sentence: str = ""

    def hear(self, choice: Choice) -> None:
        """Keep what a run says that it computes with."""
        self.about, self.sentence = dict(choice.to_json()), choice.sentence


def _open(
    run: Path, num_tags: int, chosen: _Chosen, asked: Asked
) -> Callable[..., list[PredictedRow]]:
    """What predicts: a run, or without torch an exported file."""
    from fieldmark.exporting.artifact import find_artifact, open_artifact

    artifact = find_artifact(run)
    if artifact is None:
        from fieldmark.verbs import load_run

        opened = load_run(run)
        return partial(
            opened.predict,
            num_tags=num_tags,
            caution=opened.caution(**asked),
            backend=chosen.wanted,
            told=chosen.hear,
        )
    if num_tags:
        raise FieldmarkError(f"--tags: {artifact} is an exported file, and proposes no tags")
    exported = open_artifact(artifact)

    def hear(choice: FileChoice) -> None:
        about = f"{exported.record.precision}, from {artifact}, by {choice.sentence}"
        chosen.about = {"name": "artifact", "runtime": choice.name, "reason": about}
        chosen.sentence = f"computed in {about}"

    return partial(
        exported.predict,
        caution=exported.caution(**asked),
        backend=chosen.wanted,
        told=hear,
    )


def _num_tags(words: tuple[int, ...] | None) -> int:
    """How many tags `--tags`, `--tags 5` or its absence ask for."""
    if words is None:
        return 0
    if len(words) > 1 or any(number < 1 for number in words):
        told = " ".join(map(str, words))
        raise FieldmarkError(f"--tags: expected one number of tags from 1, not {told}")
    return words[0] if words else DEFAULT_TAGS


def _set_method(words: tuple[str, ...] | None) -> str | None:
    """The method that `--sets`, `--sets aps` or its absence ask for."""
    if words is not None and len(words) > 1:
        raise FieldmarkError(f"--sets: expected one of lac, aps, raps, not {' '.join(words)}")
    return None if words is None else (words or ("lac",))[0]


def _threshold(words: tuple[float, ...] | None) -> float | bool:
    """The threshold that `--reject`, `--reject 0.7` or its absence ask for."""
    if words is None:
        return False
    if len(words) > 1 or not all(math.isfinite(number) for number in words):
        told = " ".join(f"{number:g}" for number in words)
        raise FieldmarkError(f"--reject: expected one finite number, not {told}")
    return words[0] if words else True


def _as_json(row: PredictedRow) -> dict[str, object]:
    if row.error is not None:
        return {"image": row.image, "error": row.error}
    top = [{"label": c.label, "probability": c.probability} for c in row.top]
    answer: dict[str, object] = {"image": row.image, "top": top}
    if row.label_set is not None:
        answer["label_set"] = list(row.label_set)
    if row.unknown is not None:
        answer["unknown"] = row.unknown
    if row.tags:
        answer["tags"] = [{"tag": tag.tag, "share": tag.share} for tag in row.tags]
    return answer


def _as_csv(
    rows: Sequence[PredictedRow], top: int
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    width = min(top, max((len(row.top) for row in rows), default=0))
    has_tags = any(row.tags for row in rows)
    has_sets = any(row.label_set is not None for row in rows)
    has_unknown = any(row.unknown is not None for row in rows)
    numbered = tuple(f"p{place + 1}" for place in range(width))
    given = {"label_set": has_sets, "unknown": has_unknown, "tags": has_tags}
    further = [name for name, is_there in given.items() if is_there]
    header = ("image", "label", *numbered, *further)
    lines = []
    for row in rows:
        numbers = [f"{c.probability:.6f}" for c in row.top[:width]]
        label = UNKNOWN if row.unknown else row.label
        cells = {
            "label_set": ";".join(row.label_set or ()),
            # A class may be called "unknown" too.
            "unknown": {None: "", False: "no", True: "yes"}[row.unknown],
            # As a table with tags has them, so that it can be read as one.
            "tags": ";".join(tag.tag for tag in row.tags),
        }
        filled = (*numbers, *[""] * (width - len(numbers)))
        lines.append((row.image, label, *filled, *(cells[name] for name in further)))
    return header, lines


def _as_table(rows: Sequence[PredictedRow]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("image", overflow="fold")
    table.add_column("classes, most probable first", overflow="fold")
    has_tags = any(row.tags for row in rows)
    if has_tags:
        table.add_column("proposed tags, most likely first", overflow="fold")
    has_sets = any(row.label_set is not None for row in rows)
    if has_sets:
        table.add_column("label set", overflow="fold")
    for row in rows:
        classes = "   ".join(f"{c.label} {c.probability:.3f}" for c in row.top)
        told = f"{UNKNOWN} ({classes})" if row.unknown else classes
        cells = [row.image, told if row.error is None else f"error: {row.error}"]
        cells += [", ".join(tag.tag for tag in row.tags)] if has_tags else []
        cells += [", ".join(row.label_set or ())] if has_sets else []
        table.add_row(*cells)
    return table
