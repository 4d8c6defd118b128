"""The pictures that figures are drawn of: named by the user, or taken from the run's own split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
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
from fieldmark.seeds import derive_seed
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
        return _stem(self.name)


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


def prepare_picture(
    subject: Subject,
    data: bytes,
    *,
    name: str,
    split: str | None,
    label: str | None,
    tags: tuple[str, ...] | None,
) -> Picture:
    """Decode an image and prepare it as the run's evaluation does.

    Raises `UnreadableImageError`.
    """
    predictor = subject.predictor
    if not isinstance(predictor.transform, EvalTransform):
        raise TypeError("pictures are shown as `EvalTransform` prepares them")
    image = decode_image(data)
    return Picture(
        name=name,
        split=split or None,
        label=label or None,
        pixels=predictor.transform(image).to(predictor.device),
        # It squashes or cuts: a map lies on what it gave, so that is what is shown.
        shown=predictor.transform.prepare(image).permute(1, 2, 0).numpy(),
        tag_ids=None
        if predictor.encode_tags is None
        else predictor.encode_tags(tags).to(predictor.device),
    )


def choose_rows(table: Table, most: int, seed: int) -> list[Row]:
    """At most so many rows, in random order, the first of each class before the second of any."""
    order = np.random.default_rng(derive_seed(seed, "rows")).permutation(len(table.rows))
    seen: dict[str, int] = {}
    ranked = []
    for place, index in enumerate(order.tolist()):
        row = table.rows[index]
        seen[row.label] = seen.get(row.label, 0) + 1
        ranked.append((seen[row.label], place, row))
    return [row for _, _, row in sorted(ranked, key=lambda entry: entry[:2])[:most]]


def name_apart(images: Sequence[str]) -> list[str]:
    """The end of each path, long enough that no two figures of different images share a name."""
    parts = [PurePath(image).parts for image in images]
    names = []
    for place, own in enumerate(parts):
        others = parts[:place] + parts[place + 1 :]
        depth = next(
            (
                depth
                for depth in range(1, len(own) + 1)
                if all(_stem("-".join(o[-depth:])) != _stem("-".join(own[-depth:])) for o in others)
            ),
            None,
        )
        names.append(f"{place + 1}-{own[-1]}" if depth is None else "-".join(own[-depth:]))
    return names


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _read_given(subject: Subject, options: InspectOptions) -> Iterator[Picture]:
    tags = options.tags
    if tags and subject.predictor.encode_tags is None:
        raise DataError(
            f"--tags {' '.join(tags[:5])}: this run was trained without tags. Leave them out"
        )
    frozen = {row["content_hash"]: row for row in subject.folder.load_split()}
    for image, name in zip(subject.images, name_apart(subject.images), strict=True):
        data = read_file(Path(image).expanduser())
        row = frozen.get(hash_content(data), {})
        yield prepare_picture(
            subject, data, name=name, split=row.get("split"), label=row.get("label"), tags=tags
        )


def _read_own(subject: Subject, table: Table, options: InspectOptions) -> list[Picture]:
    found: list[tuple[Row, bytes]] = []
    missing: list[str] = []
    part = table.select(options.split)
    for row in choose_rows(part, len(part), options.seed):
        if len(found) == options.num_images or len(missing) == MOST_TRIED:
            break
        try:
            data = table.store.read(row.image)
        except UnreadableImageError:
            missing.append(row.image)
            continue
        one = table.with_rows([row])
        subject.folder.verify_images(one, hash_table(one))
        found.append((row, data))
    if missing and found:
        options.note(
            f"{len(missing)} images of the {options.split} split are gone, others were taken in "
            f"their place: {', '.join(missing[:3])}"
        )
    names = name_apart([row.image for row, _ in found])
    return [
        prepare_picture(subject, data, name=name, split=row.split, label=row.label, tags=row.tags)
        for (row, data), name in zip(found, names, strict=True)
    ]
