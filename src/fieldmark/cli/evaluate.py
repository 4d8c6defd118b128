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
    backend: str = "auto",
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
    backend
        What computes: auto, eager, bf16, compiled, onnxruntime or openvino. auto tries them on a
        few images and takes the fastest whose probabilities differ by at most 0.001 from eager's.
    """
    from fieldmark.cli.results import describe_evaluation
    from fieldmark.verbs import load_run

    with stdout_for_results(), output.counting("evaluating") as counter:
        opened = load_run(run)
        scores = opened.evaluate(data, split=split, backend=backend, progress=counter)
    if scores.backend is not None:
        output.tell(scores.backend.sentence)
    result, shown = describe_evaluation(opened, scores, split)
    output.answer(result, *shown, f"stored   {scores.path}")
