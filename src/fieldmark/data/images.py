"""The one decoder of image files: training, prediction and serving see the same pixels.

Files come from strangers, so nothing in them is believed: the format is told by the first bytes
and must be on an explicit list, sizes are judged before any pixel is decoded, and data that end
early or fail their checksum are refused instead of being filled up.

Pillow's plugins are called directly instead of through `Image.open`: so a file reaches no other
plugin, and the limits are ours without touching `Image.MAX_IMAGE_PIXELS`.
"""

from __future__ import annotations

import logging
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from fieldmark.data.jpeg import (
    LeastSize,
    check_jpeg_scans,
    decode_plain_jpeg,
    read_jpeg_header,
)
from fieldmark.data.pixels import exif_orientation, to_rgb, turn_upright
from fieldmark.data.stores import MAX_FILE_BYTES, read_file
from fieldmark.errors import UnreadableImageError

MAX_PIXELS = 50_000_000

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of itself; its size in pixels as stored, before `orientation` (1-8)."""

    format: str
    mode: str
    width: int
    height: int
    orientation: int


def decode_image(source: str | Path | bytes, *, least_size: LeastSize | None = None) -> Image.Image:
    """Decode as `decode_pixels` does, into a picture without metadata."""
    decoded = _read_and_decode(source, least_size)
    return decoded if isinstance(decoded, Image.Image) else Image.fromarray(decoded)


def decode_pixels(source: str | Path | bytes, *, least_size: LeastSize | None = None) -> Pixels:
    """Decode a file, or the bytes of one, into the upright RGB pixels (H, W, 3) of an image.

    With `least_size` a JPEG may come at a half, a quarter or an eighth of its sides, decoded so
    from its DCT coefficients, which takes a fraction of the time: the smallest that has at least
    that size. Other formats come whole.

    Transparency is laid on white, grey deeper than 8 bits is scaled, and of an animation the
    first frame is taken. Raises `UnreadableImageError` with a short reason, after the path if
    `source` is one: not an image, a format that is not read, empty, truncated, damaged, more
    than 100 MiB or 50 Mpx.
    """
    decoded = _read_and_decode(source, least_size)
    return np.array(decoded) if isinstance(decoded, Image.Image) else decoded


def probe_image(data: bytes) -> ImageHeader:
    """Read the header of an encoded image within the limits of `decode_image`; no pixel is decoded.

    Damage behind the header goes unnoticed. Raises `UnreadableImageError`.
    """
    name = _recognise(data)
    with _guarded(name, data):
        image = _open(name, data)
        width, height = image.size
        orientation = exif_orientation(image.info.get("exif", b""))
        if isinstance(image, TiffImageFile):
            # Pillow gives the upright size of a TIFF and turns its pixels while loading.
            width, height = image.tag_v2[256], image.tag_v2[257]
            orientation = image.tag_v2.get(274, 1)
        if orientation not in range(1, 9):
            orientation = 1
        return ImageHeader(name, image.mode, width, height, orientation)


def _read_and_decode(
    source: str | Path | bytes, least_size: LeastSize | None
) -> Image.Image | Pixels:
    """Whichever form of the image costs nothing more."""
    if isinstance(source, bytes):
        return _decode(source, least_size)
    data = read_file(Path(source))
    try:
        return _decode(data, least_size)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{source}: {error}") from error


def _decode(data: bytes, least_size: LeastSize | None) -> Image.Image | Pixels:
    name = _recognise(data)
    with _guarded(name, data):
        _check_structure(name, data)
        if name == "JPEG" and (pixels := _decode_jpeg(data, least_size)) is not None:
            return pixels
        image = _open(name, data)
        if least_size is not None and isinstance(image, JpegImageFile):
            _reduce(image, least_size)
        image.load()
        if name == "PNG":
            _fit_transparent_colour(image, depth=data[24])
        picture = to_rgb(image)
        picture = turn_upright(picture, exif_orientation(image.info.get("exif", b"")))
        # Left in place, the EXIF data would turn the picture again in the next pair of hands.
        picture.info = {}
        return picture


def _decode_jpeg(data: bytes, least_size: LeastSize | None) -> Pixels | None:
    """The upright pixels of a flawless JPEG of the usual kind; None where Pillow must judge."""
    header = read_jpeg_header(data)
    if header is None or header.height * header.width > MAX_PIXELS:
        return None
    pixels = decode_plain_jpeg(data, header, least_size)
    if pixels is None or header.orientation == 1:
        return pixels
    return np.array(turn_upright(Image.fromarray(pixels), header.orientation))


def _reduce(image: JpegImageFile, least_size: LeastSize) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8 of its sides, where that is enough."""
    if exif_orientation(image.info.get("exif", b"")) > 4:  # it lies on its side
        enough = least_size(image.width, image.height)
    else:
        height, width = least_size(image.height, image.width)
        enough = width, height
    image.draft(None, enough)


class _PlainJpeg(JpegImageFile):
    """A JPEG whose EXIF data Pillow leaves alone: it wants the dpi only, and warns of faults."""

    def getexif(self) -> Image.Exif:
        return Image.Exif()


_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": _PlainJpeg,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "AVIF": AvifImageFile,
    "PPM": PpmImageFile,
}

_SIGNATURES = {
    name: re.compile(pattern, re.DOTALL)
    for name, pattern in {
        "JPEG": rb"\xff\xd8\xff",
        "PNG": rb"\x89PNG\r\n\x1a\n",
        "WEBP": rb"RIFF.{4}WEBP",
        "GIF": rb"GIF8[79]a",
        "BMP": rb"BM",
        "TIFF": rb"II[*+]\0|MM\0[*+]",
        "AVIF": rb".{4}ftyp(avi[fs]|m[is]f1.{4}(.{4}){0,16}?avi[fs])",
        "PPM": rb"P[1-6]\s",
        "HEIF": rb".{4}ftyp(hei|hev|m[is]f1)",
        "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
        "JPEG 2000": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP",
        "SVG": rb"\s*(<\?xml.{0,500}?)?<svg",
        "PSD": rb"8BPS",
        "ICO": rb"\0\0\x01\0",
        "PDF": rb"%PDF",
    }.items()
}


def _recognise(data: bytes) -> str:
    """Return the name of the format, a key of `_PLUGINS`."""
    if not data:
        raise UnreadableImageError("empty: it has no bytes")
    if len(data) > MAX_FILE_BYTES:
        raise UnreadableImageError(
            f"{len(data) / 2**20:.0f} MiB is more than the {MAX_FILE_BYTES // 2**20} MiB allowed"
        )
    name = next((name for name, start in _SIGNATURES.items() if start.match(data)), None)
    if name is None:
        raise UnreadableImageError(f"not an image: starts with {_first_word(data)}")
    if name not in _PLUGINS:
        raise UnreadableImageError(f"{name} is not read: convert it to PNG or JPEG")
    return name


def _first_word(data: bytes) -> str:
    words = data[:16].decode("latin-1").split(maxsplit=1)
    if words and words[0].isascii() and words[0].isprintable():
        return repr(words[0])
    return f"the bytes {data[:4].hex(' ')}"


@contextmanager
def _guarded(name: str, data: bytes) -> Iterator[None]:
    """Keep Pillow quiet, and turn whatever it raises into one sentence."""
    # The other plugins never warn, so the common formats stay free of shared state.
    warns = name in ("TIFF", "AVIF", "GIF") or (name == "PNG" and b"acTL" in data)
    try:
        with _SILENCE if warns else nullcontext():
            yield
    except UnreadableImageError:
        raise
    # Hostile files make Pillow raise nearly any class: OSError, SyntaxError, ValueError,
    # RuntimeError, KeyError, OverflowError, TypeError, AssertionError have all been met.
    except Exception as error:
        raise UnreadableImageError(_reason(name, error)) from error


class _PillowSilence:
    """Ignores the warnings of Pillow, and of nothing else, while any thread is inside.

    `warnings.catch_warnings` alone would not do: two threads that overlap would restore each
    other's filters in the wrong order and leave one of them in place.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._undo = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._undo.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL\.")
                _TIFF_LOGGER.addFilter(_drop_record)
                self._undo.callback(_TIFF_LOGGER.removeFilter, _drop_record)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._undo.close()


def _drop_record(_: logging.LogRecord) -> bool:
    return False


_TIFF_LOGGER = logging.getLogger("PIL.TiffImagePlugin")
_SILENCE = _PillowSilence()


def _reason(name: str, error: Exception) -> str:
    # Some messages quote the file, which may hold control codes for a terminal.
    text = re.sub(r"[^ -~]+", " ", str(error))[:100].strip()
    ended = isinstance(error.__cause__, IndexError | EOFError | struct.error)
    if isinstance(error, Image.DecompressionBombError):
        return f"a frame has more than the {MAX_PIXELS // 10**6} Mpx allowed"
    if isinstance(error, MemoryError):
        return f"there is not enough memory to decode this {name}"
    if ended or "truncated" in text.lower():
        return _ends_early(name)
    if not text or "not identified by this driver" in text:
        return f"damaged {name}: there is no picture in it"
    return f"damaged {name}: {text}"


def _ends_early(name: str) -> str:
    return f"truncated: the {name} data end too early"


def _check_structure(name: str, data: bytes) -> None:
    """Refuse what Pillow would fill up, let pass or chew on for minutes."""
    if name == "PNG":
        _check_png_chunks(data)
    elif name == "JPEG":
        check_jpeg_scans(data)
    elif name == "WEBP" and int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise UnreadableImageError(_ends_early(name))


def _check_png_chunks(data: bytes) -> None:
    """Check that no chunk is cut off, and the checksums of those that hold the picture.

    Pillow skips the checksums of the pixels while loading, and its `verify` would parse twice.
    """
    view = memoryview(data)
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        optional = kind[0] & 0x20
        if not optional and zlib.crc32(view[position + 4 : end]).to_bytes(4) != view[end : end + 4]:
            raise UnreadableImageError(f"damaged PNG: wrong checksum of chunk {ascii(kind)[2:-1]}")
        if kind == b"IEND":
            return
        position = end + 4
    raise UnreadableImageError(_ends_early("PNG"))


def _open(name: str, data: bytes) -> ImageFile.ImageFile:
    """Parse the header, and refuse too many pixels before there is memory for them."""
    image = _PLUGINS[name](BytesIO(data))
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(
            f"{width * height / 1e6:.1f} Mpx is more than the {MAX_PIXELS // 10**6} Mpx allowed"
        )
    return image


def _fit_transparent_colour(image: Image.Image, depth: int) -> None:
    """Bring the transparent colour of a PNG to 8 bits, where Pillow has brought the pixels only.

    `depth` is the number of bits of a stored sample.
    """
    colour = image.info.get("transparency")
    if image.mode == "L" and isinstance(colour, int) and depth < 8:
        image.info["transparency"] = colour * 255 // (2**depth - 1)
    if image.mode == "RGB" and isinstance(colour, tuple) and depth == 16:
        image.info["transparency"] = tuple(sample >> 8 for sample in colour)
