"""`fieldmark long-tail`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich import box
from rich.table import Table

from fieldmark.cli.output import Output, stdout_for_results
from fieldmark.cli.results import describe_part
from fieldmark.cli.train import DataOptions

if TYPE_CHECKING:
    from fieldmark.planning.studies.tables import Spreading
    from fieldmark.training.events import Event
    from fieldmark.verbs.long_tail import LongTail, MethodScore, Trial

NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "head": "head",
    "middle": "middle",
    "tail": "tail",
}


def long_tail(
    data: str | None = None,
    /,
    *,
    recipe: str = "leaves-deit-frozen",
    set_: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)] = (),
    seeds: int = 3,
    out: Path | None = None,
    options: DataOptions = DataOptions(),
    output: Output = Output(),
) -> None:
    """Compare remedies for rare classes on a frozen backbone: what the tail gains, the head pays.

    Class weights, balanced sampling, logit adjustment and focal loss against the plain loss, each
    over the same seeds, of which each draws another split. The backbone runs once.

    Parameters
    ----------
    data
        Labelled images, in any form that `train` takes.
    recipe
        A shipped recipe or a .yaml file; its backbone is frozen.
    set_
        Change the recipe: key=value, e.g. model.name=vit_tiny_patch16_224.
    seeds
        How many runs of each method.
    out
        The folder of all runs. Default: runs/long-tail-DATA. Runs that are there are not trained
        again.
    """
    from fieldmark.training.events import FeaturesStored
    from fieldmark.verbs.long_tail import long_tail as long_tail_verb

    finished = 0

    def tell(trial: Trial, total: int) -> None:
        nonlocal finished
        finished += 1
        scores = "  ".join(f"{NAMES[name]} {value:.3f}" for name, value in trial.scores.items())
        output.tell(f"{finished:>2}/{total}  seed {trial.seed}  {trial.method:<18} {scores}")

    with stdout_for_results(), output.counting("frozen backbone") as counter:

        def listen(event: Event) -> None:
            if isinstance(event, FeaturesStored):
                counter(event.done, event.total)

        found = long_tail_verb(
            data,
            recipe=recipe,
            overrides=[*options.overrides(), *set_],
            seeds=seeds,
            out=out,
            listener=listen,
            done=tell,
        )
    output.answer(_as_json(found), _as_table(found), *_closing_lines(found))


def _as_table(found: LongTail) -> Table:
    count = len(found.seeds)
    table = Table(
        title=f"long tail: {found.num_test} test images, {count} seed{'s' * (count > 1)}",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
    )
    table.add_column("method", no_wrap=True)
    for name in found.methods[0].scores:
        table.add_column(NAMES[name], justify="right", no_wrap=True)
    for method in found.methods:
        table.add_row(method.method, *(_say(value) for value in method.scores.values()))
    table.add_section()
    for method in found.methods:
        if method.differences:
            changes = (_say(value, sign="+") for value in method.differences.values())
            table.add_row(f"{method.method} - plain", *changes)
    return table


def _closing_lines(found: LongTail) -> list[str]:
    lines = [f"{part.part:<8} {describe_part(part)}" for part in found.parts]
    lines.append("         head, middle and tail: mean recall of their classes; thirds by size")
    if len(found.seeds) > 1:
        lines.append(
            "         ± is the standard deviation between seeds; differences are seed by seed"
        )
    else:
        lines.append("         one seed: differences may be chance; --seeds 3 shows the spread")
    return [*lines, f"stored   {found.path}"]


def _say(value: Spreading, sign: str = "") -> str:
    told = f"{value.mean:{sign}.3f}"
    # Below it, so that five columns fit 80 characters.
    return told if value.deviation is None else f"{told}\n± {value.deviation:.3f}"


def _as_json(found: LongTail) -> dict[str, object]:
    return {
        "path": str(found.path),
        "seeds": list(found.seeds),
        "num_test": found.num_test,
        "parts": [
            {
                "part": part.part,
                "num_classes": part.num_classes,
                "fewest_images": part.fewest_trained,
                "most_images": part.most_trained,
            }
            for part in found.parts
        ],
        "methods": [_method_as_json(method) for method in found.methods],
        "runs": [
            {
                "method": trial.method,
                "seed": trial.seed,
                "run": str(trial.path),
                "scores": dict(trial.scores),
            }
            for trial in found.trials
        ],
    }


def _method_as_json(method: MethodScore) -> dict[str, object]:
    def plain(values: Spreading) -> dict[str, float | None]:
        return {"mean": values.mean, "deviation": values.deviation}

    return {
        "method": method.method,
        "scores": {name: plain(value) for name, value in method.scores.items()},
        "differences": {name: plain(value) for name, value in method.differences.items()},
    }
