"""`fieldmark evaluate`."""

from __future__ import annotations

from pathlib import Path

from fieldmark.cli.output import Output, stdout_for_results


def evaluate(
    run: Path,
    /,
    *,
    data: str | None = None,
    split: str = "test",
    output: Output = Output(),
) -> None:
    """Predict a split of the run's images, or other labelled images, and score the predictions.

    Parameters
    ----------
    run
        A run folder.
    data
        Other labelled images, in any form that `train` takes. Default: the run's own.
    split
        train, val or test.
    """
    from fieldmark.cli.results import describe_evaluation
    from fieldmark.verbs import load_run

    with stdout_for_results(), output.counting("evaluating") as counter:
        opened = load_run(run)
        scores = opened.evaluate(data, split=split, progress=counter)
    result, shown = describe_evaluation(opened, scores, split)
    output.answer(result, *shown, f"stored   {scores.path}")
