"""`fieldmark train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fieldmark.cli.ahead import draw_ahead
from fieldmark.cli.output import Output, stdout_for_results


@Parameter(name="*")
@dataclass(frozen=True)
class DataOptions:
    """How the data is read and divided; each stands for keys of the recipe."""

    task: str | None = None
    "multiclass, binary or multilabel."
    column: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()
    "Columns of the table by role, e.g. image=path label=species."
    image_root: str | None = None
    "The folder that image paths are relative to. Default: the table's."
    allow_outside: bool = False
    "Accept image paths that leave that folder."
    split: str | None = None
    "Shares of train, val and test, e.g. 0.7,0.1,0.2; or of train and test, e.g. 0.8,0.2."
    min_images: int | None = None
    "Drop classes with fewer images."
    max_bad: str | None = None
    "Stop if more images than this share are unreadable, e.g. 5%."
    conflicts: str | None = None
    "drop or keep pixel-identical images under different labels."
    seed: int | None = None
    "Decides split, order, augmentation and start."

    def overrides(self) -> list[str]:
        """The options given, as `key=value` of the recipe."""
        given = {
            "task": self.task,
            "data.image_root": self.image_root,
            "data.allow_outside": True if self.allow_outside else None,
            "data.split.ratios": None if self.split is None else f"[{self.split}]",
            "data.min_images": self.min_images,
            "data.max_bad": None if self.max_bad is None else as_share(self.max_bad),
            "data.conflicts": self.conflicts,
            "seed": self.seed,
        }
        columns = [f"data.columns.{role}" for role in self.column]
        return [f"{key}={value}" for key, value in given.items() if value is not None] + columns


def train(
    data: str | None = None,
    /,
    *,
    recipe: str | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)] = (),
    out: Path | None = None,
    resume: bool = False,
    evaluate: Annotated[bool, Parameter(negative="--no-evaluate")] = True,
    compile_: Annotated[bool, Parameter(name="--compile")] = False,
    profile: bool = False,
    options: DataOptions = DataOptions(),
    output: Output = Output(),
) -> None:
    """Train one run from labelled images and evaluate it on its test split.

    Parameters
    ----------
    data
        sample:leaves, sample:characters, a folder of class folders, a .csv .tsv .parquet or .jsonl
        table, hf:NAME, torchvision:NAME, or daf:ROOT.
    recipe
        A shipped recipe (`fieldmark recipes`) or a .yaml file. Default: quick.
    set_
        Change the recipe: key=value, e.g. optim.lr=0.01 optim.epochs=30.
    out
        The run folder. Default: runs/DATA-RECIPE; an existing one is refused.
    resume
        Go on with an interrupted run.
    evaluate
        Score the test split afterwards.
    compile_
        Compile the network first, which takes minutes: for long runs only. Says what it gained.
    profile
        Show where the time went; also in the run's profile.json and, step by step, in
        profile-trace.json.
    """
    from fieldmark.cli.progress import TrainingView

    overrides = [*options.overrides(), *(["compile=true"] if compile_ else []), *set_]
    # A resumed run reads what its own folder names.
    drawn = draw_ahead(None if resume else data, recipe, overrides)
    with stdout_for_results(), TrainingView(output) as view:
        from fieldmark.cli.results import describe_evaluation, describe_training
        from fieldmark.verbs import train as train_verb

        run = train_verb(
            data if drawn is None else drawn.result(),
            recipe=recipe,
            out=out,
            overrides=overrides,
            resume=resume,
            profile=profile,
            listener=view,
        )
        has_test = any(row["split"] == "test" for row in run.folder.load_split())
        scores = run.evaluate() if evaluate and has_test else None
        page = run.report()
    result, shown = describe_training(view)
    result["report"] = str(page.path)
    shown.insert(-1, f"report   {page.path}")
    if scores is not None:
        evaluation, table = describe_evaluation(run, scores, "test")
        result["test"] = evaluation
        shown = [*table, *shown]
    output.answer(result, *shown)


def as_share(text: str) -> str:
    """'5%' -> '0.05'; anything else as it is, for the recipe to judge."""
    number = text.strip().removesuffix("%")
    if not text.strip().endswith("%"):
        return text
    try:
        return f"{float(number) / 100:g}"
    except ValueError:
        return text
