"""Sample sets that the package draws itself, so that a first run needs no download.

Every picture is drawn from a seed derived from (seed, set, class, number in the class). So the
tenth oak leaf is the same picture however many classes and images are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fieldmark.data.samples.cast import CAST
from fieldmark.data.samples.characters import draw_character
from fieldmark.data.samples.drawing import Drawing, encode_png
from fieldmark.data.samples.leaves import draw_leaf
from fieldmark.data.samples.species import SPECIES
from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.errors import TableError, hint
from fieldmark.seeds import derive_seed

MIN_IMAGES_PER_CLASS = 2
MIN_CLASSES = 2

SAMPLE_KINDS: Mapping[str, str] = {
    "leaves": f"{len(SPECIES)} leaf species on paper; look-alikes differ in margin or veins",
    "characters": f"{len(CAST)} anime faces with tags, long-tailed; look-alikes differ in a trait",
}


@dataclass(frozen=True)
class _SampleSet:
    """How a set is drawn.

    `tail` says how many times fewer images the last class gets than the first, of those that are
    left when every class has its minimum.
    """

    class_names: tuple[str, ...]
    num_images: int
    tail: float
    draw: Callable[[str, np.random.Generator], Drawing]


_SETS = {
    "leaves": _SampleSet(
        tuple(species.name for species in SPECIES), num_images=490, tail=1.0, draw=draw_leaf
    ),
    "characters": _SampleSet(
        tuple(character.name for character in CAST),
        num_images=320,
        tail=16.0,
        draw=draw_character,
    ),
}


def draw_sample(
    kind: str, *, num_images: int | None = None, num_classes: int | None = None, seed: int = 0
) -> Table:
    """Draw a sample set: a table of 128 x 128 RGB PNG files kept in memory.

    `num_classes` takes the first classes of the set, in which look-alikes are neighbours;
    `num_images` counts all classes together and is shared out evenly (leaves) or with a long
    tail (characters), at least 2 to each class. Rows come in a shuffled but fixed order, and
    neither order nor image names give a label away. Raises `TableError` for an unknown kind and
    for counts that cannot be drawn.
    """
    if kind not in _SETS:
        raise TableError(
            f"sample:{kind}: there is no such drawn set; expected one of "
            f"{', '.join(map(repr, _SETS))}.{hint(kind, _SETS)}"
        )
    counts = _count_images(kind, num_images, num_classes)
    order = sorted(
        ((name, index) for name, count in counts.items() for index in range(count)),
        key=lambda place: derive_seed(seed, "order", kind, *place),
    )
    rows, images = [], {}
    for position, (name, index) in enumerate(order):
        rng = np.random.default_rng(derive_seed(seed, "draw", kind, name, index))
        drawing = _SETS[kind].draw(name, rng)
        key = f"images/{position + 1:04d}.png"
        images[key] = encode_png(drawing.pixels)
        rows.append(Row(key, (name,), drawing.tags))
    return Table(
        tuple(rows), MemoryStore(images), f"sample:{kind}", class_names=tuple(sorted(counts))
    )


def _count_images(kind: str, num_images: int | None, num_classes: int | None) -> dict[str, int]:
    """Images to draw of each class, in the set's order."""
    sample_set = _SETS[kind]
    available = len(sample_set.class_names)
    classes = available if num_classes is None else num_classes
    shown = min(max(classes, MIN_CLASSES), available)
    total = round(sample_set.num_images * shown / available) if num_images is None else num_images
    faults = []
    if classes != shown:
        faults.append(
            f"sample:{kind}: {classes} classes cannot be drawn; expected {MIN_CLASSES} to "
            f"{available}, the nearest is {shown}."
        )
    if total < MIN_IMAGES_PER_CLASS * shown:
        faults.append(
            f"sample:{kind}: {total} images are too few for {shown} classes; expected at least "
            f"{MIN_IMAGES_PER_CLASS} per class, {MIN_IMAGES_PER_CLASS * shown} in all."
        )
    if faults:
        raise TableError("\n".join(faults))
    return dict(
        zip(sample_set.class_names, _share_out(total, shown, sample_set.tail), strict=False)
    )


def _share_out(total: int, num_classes: int, tail: float) -> list[int]:
    """Whole counts that sum to `total`: the minimum each, the rest falling geometrically."""
    weights = tail ** -(np.arange(num_classes) / max(num_classes - 1, 1))
    spare = total - MIN_IMAGES_PER_CLASS * num_classes
    ends = np.rint(np.cumsum(weights) / weights.sum() * spare).astype(int)
    shares = np.diff(ends, prepend=0) + MIN_IMAGES_PER_CLASS
    return [int(share) for share in shares]
