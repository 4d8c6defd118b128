"""`fieldmark sample`."""

from __future__ import annotations

from pathlib import Path

from fieldmark.cli.output import Output


def sample(
    kind: str,
    folder: Path,
    /,
    *,
    images: int | None = None,
    classes: int | None = None,
    seed: int = 0,
    output: Output = Output(),
) -> None:
    """Write a drawn sample set as a folder with a table.csv.

    Parameters
    ----------
    kind
        leaves or characters.
    folder
        A new folder.
    images
        Images in all.
    classes
        Number of classes.
    seed
        Another seed draws other pictures.
    """
    from fieldmark.data.samples import draw_sample
    from fieldmark.runs.tables import save_table

    table = draw_sample(kind, num_images=images, num_classes=classes, seed=seed)
    path = save_table(table, folder.absolute())
    result = {
        "table": str(path),
        "num_images": len(table),
        "num_classes": len(table.class_names),
    }
    text = f"{len(table)} images of {len(table.class_names)} classes written to {path}"
    output.answer(result, text, f"next     fieldmark train {path}")
