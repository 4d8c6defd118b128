"""Decoded pixels of any mode as an upright 8-bit RGB picture."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

Box = tuple[int, int, int, int]


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB: deep greys scaled, transparency laid on white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _scaled_grey(image)
    if image.has_transparency_data:
        return _on_white(image)
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    picture = Image.new("RGB", image.size, "white")
    for box in _strips(image):
        strip = image.crop(box).convert("RGBA")
        picture.paste(strip, box, mask=strip)
    return picture


def _scaled_grey(image: Image.Image) -> Image.Image:
    low, high = _grey_range(image)
    picture = Image.new("RGB", image.size, "white")
    for box in _strips(image):
        values = np.asarray(image.crop(box), dtype=np.float64)  # (h, W)
        grey = np.nan_to_num(np.clip((values - low) * 255 / (high - low), 0, 255), nan=0)
        if isinstance(hidden := image.info.get("transparency"), int):
            grey[values == hidden] = 255
        picture.paste(Image.fromarray(np.rint(grey).astype(np.uint8)), box)
    return picture


def _grey_range(image: Image.Image) -> tuple[float, float]:
    """Return the values that become black and white.

    16 bits have a fixed range. Greys of 32 bits have none: it is the smallest of the usual
    ranges (1 for floats, 255, 65535) that holds all values, else that of the values and 0.
    """
    if image.mode.startswith("I;16") or image.format == "PPM":
        return 0, 65535
    low, high = 0.0, 0.0
    for box in _strips(image):
        values = np.asarray(image.crop(box), dtype=np.float64)
        finite = values[np.isfinite(values)]
        low, high = min(low, finite.min(initial=0)), max(high, finite.max(initial=0))
    usual = (255, 65535) if image.mode == "I" else (1, 255, 65535)
    return low, next((top for top in usual if low == 0 and high <= top), high)


def _strips(image: Image.Image) -> Iterator[Box]:
    """Cut an image into bands of rows of about 4 Mpx, so that a conversion needs little memory."""
    num_rows = max(1, 2**22 // image.width)
    for top in range(0, image.height, num_rows):
        yield 0, top, image.width, min(top + num_rows, image.height)


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Undo an EXIF orientation of 2 to 8; any other value changes nothing."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def exif_orientation(exif: bytes) -> int:
    """Return the orientation tag (EXIF 2.32, 4.6.5), or 1 where the data are broken or lack it.

    Pillow reads all tags for this one, and warns of each that is broken.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(order + "I", tiff, 4)
        (num_entries,) = struct.unpack_from(order + "H", tiff, offset)
        for entry in range(offset + 2, offset + 2 + 12 * num_entries, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == 0x0112 and kind in (3, 4):
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), tiff, entry + 8)
                return int(value)
    except struct.error:
        return 1
    return 1
