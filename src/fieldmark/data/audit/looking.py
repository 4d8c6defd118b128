"""One pass over the images of a table: each is read, hashed and decoded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from fieldmark.data.images import ImageHeader, probe_image
from fieldmark.data.scan import ImageFacts, Scan, describe_image, read_each
from fieldmark.data.stores import ImageStore
from fieldmark.data.table import Table

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Look:
    """What the pass kept of the images: about 2 KB each.

    scan: facts of every readable image, reasons for the others. headers: image name -> what its
    file says of itself, for the readable ones.
    """

    scan: Scan
    headers: Mapping[str, ImageHeader]


def look_at_table(table: Table, *, num_threads: int = 1, progress: Progress | None = None) -> Look:
    """Read each distinct image of `table` once; the number of threads changes nothing else."""
    images = tuple(dict.fromkeys(row.image for row in table.rows))
    facts: dict[str, ImageFacts] = {}
    headers: dict[str, ImageHeader] = {}
    errors: dict[str, str] = {}
    for batch in read_each(images, partial(_look_at_image, table.store), num_threads):
        for image, result in batch:
            if isinstance(result, str):
                errors[image] = result
            else:
                facts[image], headers[image] = result
        if progress is not None:
            progress(len(facts) + len(errors), len(images))
    return Look(Scan(facts, errors), headers)


def _look_at_image(store: ImageStore, image: str) -> tuple[ImageFacts, ImageHeader]:
    data = store.read(image)
    return describe_image(image, data), probe_image(data)
