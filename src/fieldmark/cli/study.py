"""`fieldmark study`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from fieldmark.cli.compare import DASH, name_p, name_seconds, start_table
from fieldmark.cli.output import Counter, Output, stdout_for_results
from fieldmark.cli.progress import REDRAW_SECONDS
from fieldmark.planning.studies.expansion import write_value

if TYPE_CHECKING:
    from fieldmark.evaluation.comparison.records import ComparedPair
    from fieldmark.planning.studies.tables import Pivot, Spreading
    from fieldmark.training.events import Event
    from fieldmark.verbs.study_records import Study, StudyRun

# A mean and a deviation on one line take 15 characters of 80.
COLUMNS_ON_ONE_LINE = 4
MOST_COLUMNS = 8
NAMED_FAILED = 5


def study(
    file: Path,
    /,
    *,
    data: str | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)] = (),
    out: Path | None = None,
    resume: bool = False,
    output: Output = Output(),
) -> int:
    """Train every combination of a study file over its seeds, and compare them on test.

    A frozen backbone runs once; every head, rate, batch size and seed then trains on its stored
    features in seconds. The exit code is 1 where no run succeeded.

    Parameters
    ----------
    file
        A .yaml file with some of: data, recipe, set (keys of the recipe), grid (keys with lists of
        values), variants (by name), seeds, metric, baseline, keep_weights.
    data
        Labelled images, in place of the file's.
    set_
        Change the recipe of every run: key=value, e.g. optim.epochs=10.
    out
        The folder of the study. Default: runs/study-FILE; an existing one is refused.
    resume
        Go on: finished runs are kept, an interrupted one goes on, what is missing is trained.
    """
    from fieldmark.verbs.study import study as study_verb
    from fieldmark.verbs.study_records import describe

    started = time.monotonic()
    with stdout_for_results(), output.counting("starting") as counter:
        view = StudyView(output, counter)
        found = study_verb(
            file,
            data=data,
            overrides=set_,
            out=out,
            resume=resume,
            listener=view.listen,
            done=view.tell,
        )
    lines = _closing_lines(found, time.monotonic() - started)
    is_lost = len(found.failed) == len(found.runs)
    tables = [] if is_lost else _draw_tables(found)
    output.answer(describe(found), *tables, *lines)
    return int(is_lost)


class StudyView:
    """Shows a study while it runs: a bar for the run at hand, a line for each that has ended."""

    def __init__(self, output: Output, counter: Counter) -> None:
        self.output = output
        self.counter = counter
        self.num_ended = 0
        self.name = ""
        self.shown_at = 0.0

    def listen(self, event: Event) -> None:
        """Move the bar."""
        from fieldmark.training.events import FeaturesStored, ImagesScanned, RunOpened, StepDone

        if isinstance(event, RunOpened):
            self.name = event.path.name
        elif isinstance(event, ImagesScanned):
            self.counter.show("reading images", event.done, event.total)
        elif isinstance(event, FeaturesStored):
            self.counter.show("frozen backbone", event.done, event.total)
        elif isinstance(event, StepDone) and time.monotonic() - self.shown_at > REDRAW_SECONDS:
            self.shown_at = time.monotonic()
            done = (event.epoch - 1) * event.num_batches + event.batch
            self.counter.show(self.name, done, event.num_epochs * event.num_batches)

    def tell(self, run: StudyRun, total: int) -> None:
        """One line for a run that has ended."""
        self.num_ended += 1
        place = f"{self.num_ended:>{len(str(total))}}/{total}"
        if run.error is not None:
            reason, _, _ = run.error.partition(". ")
            self.output.tell(f"{place}  {run.name}  failed: {reason}")
            return
        score = f"{run.metric.replace('_', ' ')} {run.scores[run.metric]:.3f}"
        end = "kept" if run.is_kept else _name_seconds(run.seconds)
        self.output.tell(f"{place}  {run.name}  {score}  {end}")


def _draw_tables(found: Study) -> list[Text | Table]:
    """Each table below its title, which may be wider."""
    count, pivot = len(found.seeds), found.pivot
    title = f"{found.metric.replace('_', ' ')} on test, {count} seed{'s' * (count > 1)}"
    shown: list[Text | Table]
    if pivot is not None and len(pivot.columns) <= MOST_COLUMNS:
        title += f"; {pivot.row_label} down, {pivot.column_label} across"
        shown = [Text(title, style="bold"), _draw_pivot(found, pivot)]
    else:
        shown = [Text(title, style="bold"), _draw_variants(found)]
    if found.comparison is not None and found.comparison.pairs:
        pairs, names = found.comparison.pairs, _name_variants(found)
        labels = ", ".join(axis.label for axis in found.axes)
        title = f"differences to {names[pairs[0].b]} ({labels})"
        shown += [Text(title, style="bold"), _draw_pairs(pairs, names)]
    return shown


def _draw_pivot(found: Study, pivot: Pivot) -> Table:
    table = start_table()
    table.add_column(pivot.row_label, no_wrap=True)
    for name in pivot.columns:
        table.add_column(name, justify="right")
    best = _find_best(found)
    is_narrow = len(pivot.columns) > COLUMNS_ON_ONE_LINE
    for name, cells in zip(pivot.rows, pivot.cells, strict=True):
        table.add_row(name, *(_say(cell, best, is_narrow=is_narrow) for cell in cells))
    return table


def _draw_variants(found: Study) -> Table:
    """One line a variant, with its value on each axis, or its name where it has none."""
    table = start_table()
    for label in [axis.label for axis in found.axes] or ["variant"]:
        table.add_column(label, overflow="fold")
    for title in (found.metric.replace("_", " "), "seeds", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    best = _find_best(found)
    for each in found.variants:
        table.add_row(
            *(map(write_value, each.settings.values()) if each.settings else [each.name]),
            _say(each.scores.get(found.metric), best),
            str(each.num_seeds),
            _name_seconds(each.seconds),
        )
    return table


def _draw_pairs(pairs: Sequence[ComparedPair], names: Mapping[str, str]) -> Table:
    """One line a pair: what a verdict says beside `better` and `worse` is in study.json."""
    table = start_table()
    table.add_column("variant", overflow="fold", ratio=1)
    for title in ("difference", "95% interval", "p (Holm)"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for pair in pairs:
        low, high = pair.interval
        verdict, _, _ = pair.verdict.partition(" on ")
        table.add_row(
            names[pair.a],
            f"{pair.difference:+.3f}",
            f"{low:+.3f} {DASH} {high:+.3f}",
            name_p(pair.p_adjusted),
            Text(verdict, style={"better": "bold green", "worse": "bold red"}.get(verdict, "")),
        )
    return table


def _name_variants(found: Study) -> dict[str, str]:
    """By its values alone, where the head of the table says of what they are."""
    return {
        each.name: ", ".join(map(write_value, each.settings.values())) for each in found.variants
    }


def _find_best(found: Study) -> Spreading | None:
    from fieldmark.evaluation.metrics import LOWER_IS_BETTER

    scores = [each.scores[found.metric] for each in found.variants if found.metric in each.scores]
    sign = 1 if found.metric in LOWER_IS_BETTER else -1
    return min(scores, key=lambda score: sign * score.mean, default=None)


def _say(value: Spreading | None, best: Spreading | None, *, is_narrow: bool = False) -> Text:
    if value is None:
        return Text(DASH)
    told = f"{value.mean:.3f}"
    if value.deviation is not None:
        told += f"{chr(10) if is_narrow else ' '}± {value.deviation:.3f}"
    return Text(told, style="bold" if value is best else "")


def _closing_lines(found: Study, seconds: float) -> list[str]:
    kept = sum(run.is_kept for run in found.runs)
    trained = len(found.runs) - kept - len(found.failed)
    lines = [fill(f"note     {note}", 80, subsequent_indent=" " * 9) for note in found.notes]
    lines += _describe_failed(found)
    lines.append(f"seeds    {_describe_seeds(found)}")
    if not found.weights_are_kept and len(found.failed) < len(found.runs):
        lines.append(
            "weights  of frozen networks are not kept: fieldmark train --resume --out RUN\n"
            "         makes them again; `keep_weights: true` in the file keeps them"
        )
    counts = [f"{trained} trained", f"{kept} kept", f"{len(found.failed)} failed"]
    told = ", ".join(count for count in counts if not count.startswith("0 "))
    lines.append(f"runs     {told or 'none'}; {name_seconds(seconds)}")
    return [*lines, f"stored   {found.path}"]


def _name_seconds(value: float | None) -> str:
    return f"{value:.1f} s" if value is not None and value < 10 else name_seconds(value)


def _describe_failed(found: Study) -> list[str]:
    """A line for each variant of which runs failed, with the reason of the first."""
    by_variant: dict[str, list[StudyRun]] = {}
    for run in found.failed:
        by_variant.setdefault(run.variant, []).append(run)
    lines = []
    for name, runs in list(by_variant.items())[:NAMED_FAILED]:
        seeds = f"seed{'s' * (len(runs) > 1)} {', '.join(str(run.seed) for run in runs)}"
        text = f"failed   {name}, {seeds}: {runs[0].error}"
        lines.append(fill(text, 80, subsequent_indent=" " * 9))
    if len(by_variant) > NAMED_FAILED:
        lines.append(f"failed   {len(by_variant) - NAMED_FAILED} variants more: see study.json")
    return lines


def _describe_seeds(found: Study) -> str:
    if len(found.seeds) == 1:
        return "one: differences may be chance; `seeds: 3` shows the spread"
    pairs = () if found.comparison is None else found.comparison.pairs
    is_paired = any(pair.test == "t over seeds, paired" for pair in pairs)
    how = ";\n         each has a split of its own, so variants are compared seed by seed"
    return f"{len(found.seeds)}: mean ± standard deviation between them{how if is_paired else ''}"
