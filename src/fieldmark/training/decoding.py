"""Whether a run keeps its decoded images, where, and what it says of that."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fieldmark.data.decoded import DecodedImages, StoredForm, open_decoded
from fieldmark.data.images import probe_image
from fieldmark.data.table import Table
from fieldmark.errors import UnreadableImageError
from fieldmark.recipes import Recipe
from fieldmark.runs.folder import RunFolder
from fieldmark.transforms import Preparation

AUTO_LIMIT_BYTES = 4 * 2**30
# Left on the disk for checkpoints and everybody else.
RESERVE_BYTES = 2**30
_PROBED = 32
_WHAT_HELPS = " (with crop: resized, data.augment.crop_from=shrunk keeps smaller ones)"


def open_stores(
    folder: RunFolder,
    recipe: Recipe,
    split: Table,
    preparations: Mapping[str, Preparation],
    say: Callable[[str], None],
) -> Mapping[str, DecodedImages]:
    """Stores of decoded images by the name of a split, for those of `preparations` worth it.

    None where images are seen once only. What is chosen is told through `say`.
    """
    is_seen_again = recipe.optim.epochs > 1 or recipe.optim.max_updates > 0
    if recipe.cache == "off" or not is_seen_again:
        return {}
    is_auto = recipe.cache == "auto"
    place = folder.decoded_dir if is_auto else Path(recipe.cache).absolute()
    sizes = {name: _estimate(split.select(name), how) for name, how in preparations.items()}
    needed = sum(size.num_bytes for size in sizes.values())
    refusal = _find_refusal(needed, place, is_auto=is_auto)
    if refusal is not None:
        say(f"Decoded images are not kept: {refusal}. They are decoded in each epoch")
        return {}
    hashes = {row["image"]: row["content_hash"] for row in folder.load_split()}
    stores = {}
    for name in (name for name, size in sizes.items() if size.num_bytes):
        form = StoredForm(preparations[name].name, preparations[name].max_px)
        store = open_decoded(place, hashes, form, say)
        if store is not None:
            stores[name] = store
    if stores:
        say(_announce(sizes, needed, place, is_auto=is_auto))
    return stores


@dataclass(frozen=True)
class _Size:
    """About how many images of how many are stored, and the room they take."""

    num_stored: int
    num_images: int
    num_bytes: int


def _estimate(table: Table, preparation: Preparation) -> _Size:
    """By the headers of a few images; images of a set are mostly alike."""
    step = max(1, len(table) // _PROBED)
    pixels = []
    for row in table.rows[::step]:
        try:
            header = probe_image(table.store.read(row.image))
        except UnreadableImageError:
            continue
        pixels.append(preparation.stored_px(header.height, header.width))
    stored = sum(count > 0 for count in pixels)
    if not stored:
        return _Size(0, len(table), 0)
    return _Size(
        round(len(table) * stored / len(pixels)),
        len(table),
        round(3 * len(table) * sum(pixels) / len(pixels)),
    )


def _find_refusal(needed: int, place: Path, *, is_auto: bool) -> str | None:
    """Why so many bytes are not stored there; None where they are."""
    if needed == 0:
        return f"they are too large for that{_WHAT_HELPS}"
    room = f"about {_megabytes(needed)} would be needed"
    if is_auto and needed > AUTO_LIMIT_BYTES:
        return f"{room}, more than {_megabytes(AUTO_LIMIT_BYTES)}; cache=FOLDER keeps any number"
    try:
        free = shutil.disk_usage(_first_existing(place)).free
    except OSError as error:
        return f"{place}: {error.strerror}"
    there = sum(_allocated_bytes(file) for file in place.glob("*.decoded"))
    if needed > free + there - RESERVE_BYTES:
        return f"{room}, and {place} has {_megabytes(free)} left"
    return None


def _first_existing(place: Path) -> Path:
    return next(path for path in (place, *place.parents) if path.exists())


def _allocated_bytes(file: Path) -> int:
    """What a file with holes really takes."""
    status = file.stat()
    blocks = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else 512 * int(blocks)


def _announce(sizes: Mapping[str, _Size], needed: int, place: Path, *, is_auto: bool) -> str:
    stored = sum(size.num_stored for size in sizes.values())
    too_large = sum(size.num_images for size in sizes.values()) - stored
    end = "until the run has finished" if is_auto else "for later runs too"
    text = (
        f"Decoded images are kept in {place} {end} (about {_megabytes(needed)} for {stored} "
        "images), so that later epochs need not decode them; cache=off turns this off"
    )
    if too_large:
        text += f". About {too_large} images are too large to be kept{_WHAT_HELPS}"
    return text


def _megabytes(num_bytes: int) -> str:
    return f"{max(1, round(num_bytes / 2**20)):,} MB"
