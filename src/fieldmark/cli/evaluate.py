"""`fieldmark evaluate`."""

from __future__ import annotations

from pathlib import Path

from fieldmark.cli.output import Output, stdout_for_results
from fieldmark.errors import FieldmarkError


def evaluate(
    run: Path,
    /,
    *,
    data: str | None = None,
    split: str = "test",
    tta: str | None = None,
    calibrate: bool = False,
    coverage: float | None = None,
    keep: float | None = None,
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
    tta
        Average over augmented images: the first so many of plain, flipped, moved left, right, up,
        down, crop of the centre and the four corners, larger, smaller; or some of flip, shifts,
        five-crop, scales with commas between.
    calibrate
        First fit a temperature, conformal label sets and thresholds of "unknown" on the validation
        images, and store them for `predict`; then measure them on the split.
    coverage
        Share of images whose label set shall hold the true class. Default: 0.9.
    keep
        Share of validation images that the thresholds of "unknown" let pass. Default: 0.95.
    backend
        What computes: auto, eager, bf16, compiled, onnxruntime, openvino or openvino-bf16. auto
        tries them on a few images and takes the fastest whose probabilities differ by at most
        0.001 from eager's.
    """
    from fieldmark.cli.results import describe_evaluation
    from fieldmark.cli.trust import describe_calibration
    from fieldmark.evaluation.trust import COVERAGE, KEEP, check_calibration
    from fieldmark.verbs import load_run

    _check_options(tta, calibrate=calibrate, given=(coverage, keep))
    calibrated = None
    with stdout_for_results(), output.counting("evaluating") as counter:
        opened = load_run(run)
        if calibrate:
            calibrated = opened.calibrate(
                coverage=COVERAGE if coverage is None else coverage,
                keep=KEEP if keep is None else keep,
                progress=counter,
            )
        scores = opened.evaluate(data, split=split, tta=tta, backend=backend, progress=counter)
    if scores.backend is not None:
        output.tell(scores.backend.sentence)
    result, shown = describe_evaluation(opened, scores, split)
    if calibrated is not None:
        is_own_val = data is None and split == "val"
        check = None
        if not is_own_val:  # on which it was fitted
            check = check_calibration(calibrated.calibration, scores.predictions)
        result["calibration"], told = describe_calibration(calibrated, check, split)
        shown += told
    output.answer(result, *shown, f"stored   {scores.path}")


def _check_options(
    tta: str | None, *, calibrate: bool, given: tuple[float | None, float | None]
) -> None:
    if not calibrate and given != (None, None):
        raise FieldmarkError("--coverage and --keep say how to --calibrate: give that too")
    if calibrate and tta is not None:
        raise FieldmarkError(
            "--calibrate: temperature and thresholds are those of plain predictions, which --tta "
            "changes. Give one of the two"
        )
