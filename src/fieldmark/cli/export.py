"""`fieldmark export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from fieldmark.cli.output import Output, fail, stdout_for_results

if TYPE_CHECKING:
    from fieldmark.verbs.exporting import Exported

NOT_THE_SAME = 1
"""Exit code where the artifact says other things than the run: nothing that the user typed."""


def export(
    run: Path,
    /,
    *,
    format: str = "onnx",
    precision: str = "fp32",
    out: Path | None = None,
    images: int = 256,
    output: Output = Output(),
) -> int:
    """Write the run as one ONNX file or a timm folder, with a proof that it says the same.

    Parameters
    ----------
    run
        A run folder.
    format
        onnx: one file with weights, classes and preprocessing, which `fieldmark predict` runs
        without torch. timm: a folder for timm.create_model("local-dir:FOLDER", pretrained=True).
    precision
        fp32, or int8 (onnx only): calibrated on training images; layers that lose too much stay
        in fp32 and are named.
    out
        Where to. Default: RUN/export/FORMAT-PRECISION. An earlier export is replaced.
    images
        Test and validation images of the proof.
    """
    from fieldmark.errors import ParityError
    from fieldmark.verbs import load_run
    from fieldmark.verbs.exporting import export as export_run

    try:
        with stdout_for_results():
            made = export_run(
                load_run(run),
                format=format,
                precision=precision,
                out=out,
                images=images,
                tell=output.tell,
            )
    except ParityError as error:
        fail(error, as_json=output.json)
        return NOT_THE_SAME
    result = {
        "artifact": str(made.file),
        "folder": str(made.folder),
        "format": made.format,
        "megabytes": _megabytes(made),
        **made.parity.to_json(),
    }
    output.answer(result, _as_table(made), *_sentences(made), f"exported {made.file}")
    return 0


def _as_table(made: Exported) -> Table:
    parity = made.parity
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{parity.num_images} images ({parity.images_from}); speed against eager fp32",
    )
    sizes = [f"speed, {s.batch_size} at once" for s in parity.runtimes[0].speeds]
    table.add_column("run by", no_wrap=True)
    for name in ("same decision", "largest change", "accuracy", *sizes):
        table.add_column(name, justify="right", no_wrap=name == "accuracy")
    for runtime in parity.runtimes:
        found = runtime.agreement
        table.add_row(
            runtime.name,
            f"{found.top1:.2%}",
            f"{found.max_difference:.1e}",
            "-" if found.after is None else f"{found.before:.3f} -> {found.after:.3f}",
            *(f"{s.ratio:.1f}x" for s in runtime.speeds),
        )
    return table


def _sentences(made: Exported) -> list[str]:
    parity = made.parity
    lines = [f"proved   {parity.bound}, by {parity.runtimes[0].name}"]
    if parity.calibration:
        lines.append(f"int8     {parity.calibration}")
    if parity.kept_fp32:
        lines.append(f"in fp32  {', '.join(parity.kept_fp32)}")
    lines += [f"note     {note}" for note in parity.notes]
    return lines


def _megabytes(made: Exported) -> float:
    files = [made.file] if made.file.is_file() else list(made.folder.iterdir())
    return round(sum(file.stat().st_size for file in files) / 1e6, 2)
