"""`fieldmark ensemble`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from fieldmark.cli.output import Output, stdout_for_results

if TYPE_CHECKING:
    from fieldmark.verbs.ensemble import Ensemble

SHOWN = ("accuracy", "macro_f1", "nll", "ece")


def ensemble(
    *runs: Path,
    split: str = "test",
    greedy: bool = False,
    out: Path | None = None,
    output: Output = Output(),
) -> None:
    """Average the probabilities of runs over the same images, and score them like a run.

    Parameters
    ----------
    runs
        Two run folders or more, of the same classes and the same split; recipes, networks and
        image sizes may differ.
    split
        train, val or test.
    greedy
        Choose weights on the validation images: again and again, add the run that lowers the
        negative log-likelihood most. Default: all runs count alike.
    out
        The folder of the ensemble, with predictions and no weights. Default: runs/ensemble; an
        existing one is refused.
    """
    from fieldmark.cli.results import describe_evaluation
    from fieldmark.cli.trust import describe_change
    from fieldmark.verbs.ensemble import ensemble as ensemble_verb

    with stdout_for_results(), output.counting("evaluating") as counter:
        done = ensemble_verb(runs, split=split, greedy=greedy, out=out, progress=counter)
    result, shown = describe_evaluation(done.run, done.evaluation, split)
    result["members"] = [
        {"name": m.name, "run": str(m.path), "weight": m.weight, "metrics": m.metrics}
        for m in done.members
    ]
    if done.selection is not None:
        result["selection"] = {
            "counts": list(done.selection.counts),
            "val_nll": list(done.selection.nlls),
        }
    if done.change is not None:
        change, told = describe_change(done.change, done.best_single)
        result["change"] = {**change, "against": done.best_single}
        shown.append(told)
    output.answer(result, *shown, _members_table(done), f"stored   {done.run.path}")


def _members_table(done: Ensemble) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("member", overflow="fold")
    for name in ("weight", *SHOWN):
        table.add_column(name, justify="right")
    for member in done.members:
        scores = [f"{member.metrics[name]:.4f}" for name in SHOWN]
        table.add_row(member.name, f"{member.weight:.2f}", *scores)
    whole = [f"{done.evaluation.metrics[name]:.4f}" for name in SHOWN]
    table.add_section()
    table.add_row("ensemble", "", *whole, style="bold")
    return table
