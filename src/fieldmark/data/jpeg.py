"""JPEG files straight to pixels: what can be decoded so, and what Pillow must judge.

libjpeg-turbo decodes here as it does in Pillow, to the same bits. Left out are Pillow's parsing of
the header and two copies of the picture, which for small pictures take as long as the decoding.
Whatever is not quite as it should be is left to Pillow, and to what `images` makes of its errors.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from fieldmark.data.pixels import exif_orientation
from fieldmark.errors import UnreadableImageError

MAX_SCANS = 100

# (height, width) of an image -> the (height, width) that is enough of it.
LeastSize = Callable[[int, int], tuple[int, int]]

# Baseline, extended and progressive frames, Huffman-coded (ITU T.81, table B.1).
_FRAMES = {0xC0, 0xC1, 0xC2}
_OTHER_FRAMES = {0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)}
_EXIF, _START_OF_SCAN = 0xE1, 0xDA
_SCALES = (8, 4, 2)


@dataclass(frozen=True)
class JpegHeader:
    """Size in pixels as stored, before `orientation` (1-8)."""

    height: int
    width: int
    orientation: int


def read_jpeg_header(data: bytes) -> JpegHeader | None:
    """Read what stands before the first scan; None for anything out of the ordinary.

    Ordinary is one Huffman-coded frame of 8 bits, grey or of three colours, and at most one block
    of EXIF data.
    """
    frame: tuple[int, int] | None = None
    exif = b""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = struct.unpack_from(">xBH", data, position)
        start, end = position + 4, position + 2 + length
        if marker == _START_OF_SCAN:
            return None if frame is None else JpegHeader(*frame, exif_orientation(exif))
        if marker in _FRAMES and frame is None and end <= len(data) and length >= 8:
            bits, height, width, num_channels = struct.unpack_from(">BHHB", data, start)
            if bits != 8 or num_channels not in (1, 3) or not height or not width:
                return None
            frame = height, width
        elif marker in _FRAMES or marker in _OTHER_FRAMES or length < 2:
            return None
        elif marker == _EXIF and data.startswith(b"Exif\0\0", start):
            if exif:
                return None
            exif = data[start:end]
        position = end
    return None


def decode_plain_jpeg(
    data: bytes, header: JpegHeader, least_size: LeastSize | None
) -> NDArray[np.uint8] | None:
    """Decode to (H, W, 3), not yet upright; None where the data are not flawless.

    With `least_size` at a half, a quarter or an eighth of the sides where that is enough.
    """
    scale = 1 if least_size is None else _choose_scale(header, least_size)
    height, width = -(-header.height // scale), -(-header.width // scale)
    try:
        # The least size makes sure that it is this fraction and no other.
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", min_height=height, min_width=width, min_factor=scale
        )
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, 3) else None


def _choose_scale(header: JpegHeader, least_size: LeastSize) -> int:
    if header.orientation > 4:  # it lies on its side
        width, height = least_size(header.width, header.height)
    else:
        height, width = least_size(header.height, header.width)
    most = min(header.width // width, header.height // height)
    return next((scale for scale in _SCALES if scale <= most), 1)


def check_jpeg_scans(data: bytes) -> None:
    """Refuse a JPEG that repeats its scans to burn time: each passes over all pixels anew."""
    values = np.frombuffer(data, np.uint8)
    # Four times as fast as bytes.count, which takes as long as a tenth of the decoding.
    if np.count_nonzero((values[:-1] == 0xFF) & (values[1:] == _START_OF_SCAN)) <= MAX_SCANS:
        return
    # The count may come from thumbnails or from a film behind the picture: walk the markers.
    num_scans = 0
    position = 2
    while (found := _MARKER.search(data, position)) and found[1] != b"\xd9":
        num_scans += found[1] == b"\xda"
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    if num_scans > MAX_SCANS:
        raise UnreadableImageError(
            f"damaged JPEG: {num_scans} scans are more than the {MAX_SCANS} allowed"
        )


# A marker followed by its length: no escaped 0xFF, no restart inside the pixel data.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
