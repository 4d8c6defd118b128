"""The pictures that figures are drawn of: named by the user, or taken from the run's own split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from fieldmark.data.images import decode_image
from fieldmark.data.prepare import hash_table
from fieldmark.data.scan import hash_content
from fieldmark.data.stores import read_file
from fieldmark.data.table import SPLITS, Row, Table
from fieldmark.errors import DataError, InspectionError, UnreadableImageError, hint
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.subject import Subject
from fieldmark.transforms.pipelines import EvalTransform

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_TRIED = 50
"""Images of the table that are tried in place of ones that are gone."""


@dataclass(frozen=True)
class Picture:
    """One picture as the network sees it.

    name: for people. split: train, val or test; None where the run never saw the file. label: as
    the run has it. pixels: (3, H, W) normalised, what the network reads. shown: (H, W, 3) uint8,
    the same before normalisation. tag_ids: (T,) token ids; None where the network takes no tags.
    """

    name: str
    split: str | None
    label: str | None
    pixels: Tensor
    shown: NDArray[np.uint8]
    tag_ids: Tensor | None = None

    @property
    def words(self) -> str:
        """Name, split and label, for a caption."""
        split = "in no split of this run" if self.split is None else f"{self.split} split"
        label = "" if self.label is None else f", labelled {self.label}"
        return f"image {self.name} ({split}{label})"

    @property
    def stem(self) -> str:
        """The name without its ending, for a file name."""
        return self.name.rpartition(".")[0] or self.name


def choose_pictures(subject: Subject, options: InspectOptions) -> list[Picture]:
    """Return the user's pictures or, without any, `num_images` of the split, each of a new class.

    Raises `InspectionError` where there is none, `UnreadableImageError` for a file of the user's
    that is no image, and `RunChangedError` for an image of the run that is no longer the same.
    """
    if subject.images:
        return list(_read_given(subject, options))
    if options.split not in SPLITS:
        raise InspectionError(
            f"split '{options.split}': expected one of {', '.join(SPLITS)}."
            f"{hint(options.split, SPLITS)}"
        )
    if options.num_images < 1:
        raise InspectionError(f"--images: expected at least 1, not {options.num_images}")
    found = [] if subject.table is None else _read_own(subject, subject.table, options)
    if not found:
        raise InspectionError(
            f"{subject.folder.path}: none of its own images is there to look at (--split "
            f"{options.split}). Name a picture by --image PATH"
        )
    return found


def _read_given(subject: Subject, options: InspectOptions) -> Iterator[Picture]:
    frozen = {row["content_hash"]: row for row in subject.folder.load_split()}
    names = [Path(image).name for image in subject.images]
    for image, name in zip(subject.images, names, strict=True):
        data = read_file(Path(image).expanduser())
        row = frozen.get(hash_content(data), {})
        yield _picture(
            subject,
            # Two files of one name must not share a figure.
            name if names.count(name) == 1 else "-".join(Path(image).parts[-2:]),
            data,
            split=row.get("split"),
            label=row.get("label"),
            tags=options.tags,
        )


def _read_own(subject: Subject, table: Table, options: InspectOptions) -> list[Picture]:
    found: list[Picture] = []
    missing: list[str] = []
    for row in _in_turn(table.select(options.split), options.seed):
        if len(found) == options.num_images or len(missing) == MOST_TRIED:
            break
        try:
            data = table.store.read(row.image)
        except UnreadableImageError:
            missing.append(row.image)
            continue
        one = table.with_rows([row])
        subject.folder.verify_images(one, hash_table(one))
        picture = _picture(
            subject, Path(row.image).name, data, split=row.split, label=row.label, tags=row.tags
        )
        found.append(picture)
    if missing and found:
        options.note(
            f"{len(missing)} images of the {options.split} split are gone, others were taken in "
            f"their place: {', '.join(missing[:3])}"
        )
    return found


def _in_turn(table: Table, seed: int) -> list[Row]:
    """Rows in random order, the first of each class before the second of any."""
    order = np.random.default_rng(seed).permutation(len(table.rows))
    seen: dict[str, int] = {}
    ranked = []
    for place, index in enumerate(order):
        row = table.rows[int(index)]
        seen[row.label] = seen.get(row.label, 0) + 1
        ranked.append((seen[row.label], place, row))
    return [row for _, _, row in sorted(ranked, key=lambda entry: entry[:2])]


def _picture(
    subject: Subject,
    name: str,
    data: bytes,
    *,
    split: str | None,
    label: str | None,
    tags: tuple[str, ...] | None,
) -> Picture:
    predictor = subject.predictor
    if not isinstance(predictor.transform, EvalTransform):
        raise TypeError("pictures are shown as `EvalTransform` prepares them")
    if tags and predictor.encode_tags is None and subject.images:
        raise DataError(
            f"--tags {' '.join(tags[:5])}: this run was trained without tags. Leave them out"
        )
    image = decode_image(data)
    return Picture(
        name=name,
        split=split or None,
        label=label or None,
        pixels=predictor.transform(image).to(predictor.device),
        shown=predictor.transform.prepare(image).permute(1, 2, 0).numpy(),
        tag_ids=None
        if predictor.encode_tags is None
        else predictor.encode_tags(tags).to(predictor.device),
    )
