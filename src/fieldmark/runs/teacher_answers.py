"""What a teacher says of every training image, kept on the disk and mapped to memory.

A set of 300,000 images and 3,000 classes takes 4 GB; a batch reads its own rows alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldmark.errors import RunChangedError
from fieldmark.runs.files import find_folder, save_folder, save_json

LOGITS_NAME = "logits.npy"
ORIGIN_NAME = "origin.json"


@dataclass(frozen=True)
class Origin:
    """What stored answers are answers to; others are refused.

    teacher: as the recipe names it. view: what it saw. images: the digest of the training rows,
    in order. class_names: of the columns, in order.
    """

    teacher: str
    view: str
    images: str
    class_names: tuple[str, ...]


def save_teacher_answers(
    folder: Path, origin: Origin, *, num_images: int, blocks: Iterable[NDArray[np.float32]]
) -> None:
    """Write logits (num_images, K) from blocks (B, K) that follow each other in row order.

    The folder appears when every block is written.
    """
    shape = (num_images, len(origin.class_names))
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}

    def fill(part: Path) -> None:
        # Not through mapped memory, where a full disk is no error but the end of the process.
        with (part / LOGITS_NAME).open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            num_written = 0
            for block in blocks:
                file.write(block.astype("<f4").tobytes())
                num_written += len(block)
        assert num_written == num_images
        save_json(part / ORIGIN_NAME, _as_json(origin))

    save_folder(folder, fill)


def load_teacher_answers(
    folder: Path, origin: Origin, *, num_images: int
) -> NDArray[np.float32] | None:
    """Map the logits (num_images, K) to memory; None where there are none yet.

    Raises `RunChangedError` where they are answers to something else, or broken.
    """
    found = find_folder(folder)
    if found is None:
        return None
    again = "Restore the folder, or remove it to ask the teacher anew"
    try:
        stored = dict(json.loads((found / ORIGIN_NAME).read_text(encoding="utf-8")))
        logits = np.load(found / LOGITS_NAME, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise RunChangedError(f"{found}: cannot be read: {error}. {again}") from error
    wanted = _as_json(origin)
    different = [key for key in wanted if stored.get(key) != wanted[key]]
    if different:
        raise RunChangedError(
            f"{found}: holds a teacher's answers to something else: other "
            f"{', '.join(different)} than this run. {again}"
        )
    shape = (num_images, len(origin.class_names))
    if logits.shape != shape or logits.dtype != np.float32:
        raise RunChangedError(
            f"{found}: holds {logits.dtype} numbers of shape {logits.shape}, expected float32 of "
            f"{shape}. {again}"
        )
    answers: NDArray[np.float32] = logits
    return answers


def _as_json(origin: Origin) -> dict[str, object]:
    return {
        "teacher": origin.teacher,
        "view": origin.view,
        "images": origin.images,
        "class_names": list(origin.class_names),
    }
