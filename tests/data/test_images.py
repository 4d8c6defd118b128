from __future__ import annotations

import csv
import io
import json
import logging
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.data import images, pixels
from fieldmark.data.images import decode_image, probe_image
from fieldmark.data.jpeg import MAX_SCANS
from fieldmark.errors import UnreadableImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def picture(width: int = 48, height: int = 32) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def pixels_of(data: bytes) -> list[object]:
    return np.asarray(decode_image(data)).tolist()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    size: tuple[int, int],
    depth: int,
    colour_type: int,
    rows: bytes,
    *extra: bytes,
    tail: bytes = b"",
) -> bytes:
    header = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(extra)
    return start + png_chunk(b"IDAT", zlib.compress(rows)) + tail + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("format", FORMATS)
def test_every_listed_format_is_decoded_to_rgb(format: str) -> None:
    image = decode_image(encode(picture(), format))
    assert (image.mode, image.size, image.info) == ("RGB", (48, 32), {})
    assert type(image) is Image.Image


def test_a_path_may_be_text_or_path_object(tmp_path: Path) -> None:
    path = tmp_path / "leaf.jpg"
    path.write_bytes(encode(picture(), "PNG"))
    expected = np.asarray(picture())
    assert np.array_equal(np.asarray(decode_image(path)), expected)
    assert np.array_equal(np.asarray(decode_image(str(path))), expected)


@pytest.mark.parametrize(
    ("least", "size"),
    [
        ((375, 500), (500, 375)),
        ((188, 251), (500, 375)),
        ((180, 240), (250, 188)),
        ((9, 9), (63, 47)),
    ],
)
def test_a_jpeg_comes_as_small_as_is_enough(least: tuple[int, int], size: tuple[int, int]) -> None:
    data = encode(picture(500, 375), "JPEG")
    assert decode_image(data, least_size=lambda height, width: least).size == size


def test_a_jpeg_on_its_side_is_judged_by_its_upright_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(picture(500, 100), "JPEG", exif=exif)
    seen = []

    def least_size(height: int, width: int) -> tuple[int, int]:
        seen.append((height, width))
        return 250, 40

    assert decode_image(data, least_size=least_size).size == (50, 250)
    assert seen == [(500, 100)]


def test_other_formats_come_whole() -> None:
    data = encode(picture(500, 375), "PNG")
    assert decode_image(data, least_size=lambda height, width: (9, 9)).size == (500, 375)


def test_an_error_names_the_path_once(tmp_path: Path) -> None:
    path = tmp_path / "leaf.jpg"
    path.write_bytes(b"<!DOCTYPE html><html>404</html>")
    with pytest.raises(UnreadableImageError) as raised:
        decode_image(path)
    assert str(raised.value) == f"{path}: not an image: starts with '<!DOCTYPE'"


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(5 * 2**30)
    names = (".", "pipe.png", "dangling.png", "sparse.png", "absent.png", "zero\0byte.png")
    for source in (*(tmp_path / name for name in names), "/dev/zero"):
        with pytest.raises(UnreadableImageError, match=r"zero|absent|pipe|MiB|regular|opened"):
            decode_image(source)


def test_bytes_beyond_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 2**20)
    with pytest.raises(UnreadableImageError, match="2 MiB is more than the 1 MiB allowed"):
        decode_image(encode(picture(), "PNG") + bytes(2**20 + 2**19))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html>", "not an image: starts with '<!DOCTYPE'"),
        (b"\x00\x05\x16\x07\x00", "not an image: starts with the bytes 00 05 16 07"),
        (b"\xff\xd8\xff", "damaged JPEG: there is no picture in it"),
        (b"%PDF-1.7", "PDF is not read: convert it"),
        (b"\n<?xml version='1.0'?><svg onload='x()'/>", "SVG is not read"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF is not read"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIF is not read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "not an image"),
        (b"8BPS\0\1", "PSD is not read"),
    ],
)
def test_what_is_not_on_the_list_is_named(data: bytes, reason: str) -> None:
    for read in (decode_image, probe_image):
        with pytest.raises(UnreadableImageError, match="^" + reason.replace("?", r"\?")):
            read(data)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_files_are_refused(format: str, share: float) -> None:
    data = encode(picture(), format)
    reason = "truncated|damaged AVIF"
    with pytest.raises(UnreadableImageError, match=reason):
        decode_image(data[: int(share * len(data))])


def test_a_png_without_its_last_chunk_is_truncated() -> None:
    with pytest.raises(UnreadableImageError, match="truncated: the PNG data end too early"):
        decode_image(encode(picture(), "PNG")[:-12])


def test_a_wrong_checksum_of_png_pixels_is_refused() -> None:
    data = bytearray(png((1, 1), 8, 0, b"\0\x80"))
    data[-13] ^= 1
    assert Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0)) == (128, 128, 128)
    with pytest.raises(UnreadableImageError, match="damaged PNG: wrong checksum of chunk IDAT"):
        decode_image(bytes(data))


def test_a_wrong_checksum_of_a_png_comment_is_no_reason_to_refuse() -> None:
    comment = bytearray(png_chunk(b"tEXt", b"Comment\0hello"))
    comment[-1] ^= 1
    assert pixels_of(png((1, 1), 8, 0, b"\0\x80", tail=bytes(comment))) == [[[128] * 3]]


def webp_of_size(width: int, height: int) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = encode(picture(8, 8), "WEBP")[12:]
    body = bytes(6) + (7).to_bytes(3, "little") * 2 + bytes(4) + frame
    chunks = ((b"VP8X", b"\2\0\0\0" + sizes), (b"ANIM", bytes(6)), (b"ANMF", body))
    data = b"".join(kind + struct.pack("<I", len(part)) + part for kind, part in chunks)
    return b"RIFF" + struct.pack("<I", len(data) + 4) + b"WEBP" + data


def gif_of_size(width: int, height: int) -> bytes:
    data = encode(picture(), "GIF")
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


def bmp_of_size(width: int, height: int) -> bytes:
    data = encode(picture(), "BMP")
    return data[:18] + struct.pack("<ii", width, height) + data[26:]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png((30_000, 30_000), 1, 0, b""), "900.0 Mpx is more than the 50 Mpx allowed"),
        (png((8000, 6251), 8, 2, b""), "50.0 Mpx is more than the 50 Mpx allowed"),
        (webp_of_size(10_000, 10_000), "100.0 Mpx is more than the 50 Mpx allowed"),
        (gif_of_size(60_000, 60_000), "3600.0 Mpx is more than the 50 Mpx allowed"),
        (bmp_of_size(100_000, 1000), "100.0 Mpx is more than the 50 Mpx allowed"),
    ],
    ids=["png", "png-just-above", "webp", "gif", "bmp"],
)
def test_too_many_pixels_are_refused_by_the_header(
    data: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for plugin in images._PLUGINS.values():
        monkeypatch.setattr(plugin, "load", lambda *_: pytest.fail("pixels were decoded"))
    for read in (decode_image, probe_image):
        with pytest.raises(UnreadableImageError, match=reason):
            read(data)


def test_repeated_scans_are_refused() -> None:
    data = encode(picture(), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert decode_image(data[:-2] + scan * 3 + b"\xff\xd9").size == (48, 32)
    with pytest.raises(UnreadableImageError, match="scans are more than the 100 allowed"):
        decode_image(data[:-2] + scan * MAX_SCANS + b"\xff\xd9")


def test_scans_are_counted_in_linear_time() -> None:
    hidden = b"\xff\x01\xff\xff" + encode(picture(), "JPEG", progressive=True)[2:-2] * 20
    padding = b"\xff" * 2**20 + b"\0"
    with pytest.raises(UnreadableImageError, match="scans are more than"):
        decode_image(b"\xff\xd8" + hidden + padding + b"\xff\xd9")


def test_control_codes_stay_out_of_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise OSError("bad token \x1b[31m\n\u202etxt " + "x" * 1000)

    monkeypatch.setattr(images._PLUGINS["PPM"], "load", fail)
    with pytest.raises(UnreadableImageError, match=r"^damaged PPM: bad token") as raised:
        decode_image(encode(picture(), "PPM"))
    assert str(raised.value).isascii()
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 150


def test_a_film_behind_a_jpeg_is_not_taken_for_scans() -> None:
    film = b"\xff\xda\x00\x08 film " * 1000
    assert decode_image(encode(picture(), "JPEG") + film).size == (48, 32)


@pytest.mark.parametrize("format", FORMATS)
def test_damage_raises_no_other_class_of_error(format: str) -> None:
    rng = np.random.default_rng(1)
    whole = encode(picture(16, 16), format)
    num_refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for position in rng.integers(0, len(data) if rng.random() < 0.5 else 64, 4):
            data[position] = rng.integers(256)
        for read in (decode_image, probe_image):
            try:
                read(bytes(data))
            except UnreadableImageError:
                num_refused += 1
    assert num_refused > 20


def test_grey_of_16_bits_is_scaled_and_not_clipped() -> None:
    ramp = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    expected = np.arange(256).reshape(16, 16)
    for format in ("PNG", "TIFF"):
        grey = np.asarray(decode_image(encode(Image.fromarray(ramp), format)))
        assert np.array_equal(grey, np.stack([expected] * 3, axis=-1)), format
    wide = encode(Image.fromarray(ramp.astype(np.int32)), "PPM")
    assert np.array_equal(np.asarray(decode_image(wide))[..., 0], expected)
    dark = encode(Image.new("I", (2, 2), 200), "PPM")
    assert np.array_equal(pixels_of(dark), np.full((2, 2, 3), 1))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 128.0, 255.0]], np.float32), [0, 128, 255]),
        (np.array([[0, 100, 200]], np.int32), [0, 100, 200]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0, 2**29, 2**30]], np.int32), [0, 128, 255]),
        (np.array([[np.nan, 0.2, np.inf]], np.float32), [0, 51, 255]),
        (np.array([[-3e38, 0, 3e38]], np.float32), [0, 128, 255]),
        (np.array([[7.0, 7.0, 7.0]], np.float32), [7, 7, 7]),
    ],
)
def test_grey_of_32_bits_is_scaled_by_the_range_it_uses(
    values: np.ndarray, expected: list[int]
) -> None:
    grey = np.asarray(decode_image(encode(Image.fromarray(values), "TIFF")))
    assert grey[0, :, 0].tolist() == expected


def test_alpha_is_laid_on_white() -> None:
    half = Image.new("RGBA", (2, 1), (200, 100, 50, 128))
    half.putpixel((1, 0), (1, 2, 3, 0))
    for format in ("PNG", "TIFF"):
        assert pixels_of(encode(half, format)) == [[[227, 177, 152], [255] * 3]]
    assert pixels_of(encode(half.convert("LA"), "PNG"))[0][1] == [255] * 3


def test_a_transparent_palette_colour_becomes_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    expected = [[[10, 20, 30], [255] * 3, [70, 80, 90]]]
    assert pixels_of(encode(image, "PNG", transparency=1)) == expected
    assert pixels_of(encode(image, "GIF", transparency=1)) == expected
    some = pixels_of(encode(image, "PNG", transparency=bytes((0, 255, 128))))
    assert some == [[[255] * 3, [40, 50, 60], [162, 167, 172]]]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png((2, 1), 8, 0, b"\0\x05\x06", png_chunk(b"tRNS", b"\0\x05")), [255, 6]),
        (png((2, 1), 4, 0, b"\0\x5f", png_chunk(b"tRNS", b"\0\x0f")), [85, 255]),
        (png((2, 1), 4, 0, b"\0\x5f", png_chunk(b"tRNS", b"\0\x05")), [255, 255]),
        (png((2, 1), 2, 0, b"\0\x60", png_chunk(b"tRNS", b"\0\x01")), [255, 170]),
        (png((2, 1), 1, 0, b"\0\x40", png_chunk(b"tRNS", b"\0\x00")), [255, 255]),
        (png((2, 1), 16, 0, b"\0\x10\0\x20\0", png_chunk(b"tRNS", b"\x10\0")), [255, 32]),
        (png((2, 1), 16, 2, b"\0" + b"\x10\1" * 3 + b" \0" * 3, png_chunk(b"tRNS", b"\x10\1" * 3)),
         [255, 32]),
    ],
    ids=["grey8", "grey4-white", "grey4", "grey2", "grey1", "grey16", "rgb16"],
)  # fmt: skip
def test_the_transparent_colour_of_a_png_is_found_at_every_depth(
    data: bytes, expected: list[int]
) -> None:
    assert pixels_of(data) == [[[value] * 3 for value in expected]]


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_does_not_come_out_negative(format: str) -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.allclose(pixels_of(encode(red, format)), [255, 0, 0], atol=4)


def test_ycbcr_and_lab_keep_their_colours() -> None:
    colour = (200, 100, 50)
    ycbcr = Image.new("RGB", (2, 2), colour).convert("YCbCr")
    assert np.allclose(pixels_of(encode(ycbcr, "TIFF")), colour, atol=2)
    grey = Image.new("LAB", (2, 2), (137, 128, 128))  # L* 53.7 without colour is sRGB 129
    assert np.allclose(pixels_of(encode(grey, "TIFF")), [129] * 3, atol=2)


def test_large_images_are_converted_in_bands_without_seams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alpha = np.random.default_rng(3).integers(0, 256, (37, 16, 4), np.uint8)
    wide = np.random.default_rng(3).integers(-(2**20), 2**20, (37, 16), np.int32)
    files = encode(Image.fromarray(alpha), "PNG"), encode(Image.fromarray(wide), "TIFF")
    whole = [pixels_of(data) for data in files]
    monkeypatch.setattr(
        pixels,
        "_strips",
        lambda image: ((0, y, image.width, min(y + 5, image.height)) for y in range(0, 37, 5)),
    )
    assert [pixels_of(data) for data in files] == whole


@pytest.mark.parametrize("format", ["GIF", "WEBP", "AVIF", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_taken(format: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert np.allclose(pixels_of(data), [255, 0, 0], atol=4)


def test_later_frames_are_not_looked_at() -> None:
    frames = [Image.new("L", (16, 16), value) for value in (10, 20, 30)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    second = data.index(b"\x21\xf9", data.index(b"\x2c"))
    assert np.array_equal(pixels_of(data[:second]), np.full((16, 16, 3), 10))


STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def turned(orientation: int, format: str) -> bytes:
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(picture(5, 3)))))
    if format == "TIFF":
        return encode(stored, format, tiffinfo={274: orientation})
    exif = Image.Exif()
    exif[274] = orientation
    return encode(stored, format, exif=exif, **LOSSLESS[format])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", LOSSLESS)
def test_a_picture_is_turned_upright_once(format: str, orientation: int) -> None:
    data = turned(orientation, format)
    image = decode_image(data)
    assert np.array_equal(np.asarray(image), np.asarray(picture(5, 3)))
    assert not image.getexif()
    header = probe_image(data)
    assert header.orientation == orientation
    assert (header.width, header.height) == ((5, 3) if orientation < 5 else (3, 5))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_upright(orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    decoded = decode_image(encode(stored, "JPEG", exif=exif, quality=100, subsampling=0))
    assert np.allclose(np.asarray(decoded), upright, atol=8)


def exif_bytes(order: str, kind: int, value: int) -> bytes:
    start = b"MM\0*" if order == ">" else b"II*\0"
    packed = struct.pack(order + ("H2x" if kind == 3 else "I"), value)
    return b"".join(
        (b"Exif\0\0", start, struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, 1), packed, bytes(4))
    )


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [3, 4])
def test_exif_of_either_byte_order_is_read(order: str, kind: int) -> None:
    data = encode(picture(5, 3), "PNG", exif=exif_bytes(order, kind, 6))
    assert decode_image(data).size == (3, 5)


@pytest.mark.parametrize(
    "exif",
    [
        exif_bytes("<", 3, 0),
        exif_bytes(">", 3, 9),
        exif_bytes("<", 2, 6),
        exif_bytes("<", 3, 6)[:20],
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1" * 40,
        b"Exif\0\0",
        b"no EXIF at all",
    ],
)
def test_broken_exif_leaves_the_picture_as_stored(exif: bytes) -> None:
    for format in ("PNG", "JPEG", "WEBP"):
        data = encode(picture(5, 3), format, exif=exif)
        assert decode_image(data).size == (5, 3)
        assert probe_image(data).orientation == 1


def warning_tiff() -> bytes:
    data = encode(picture(5, 3), "TIFF", tiffinfo={274: 1})
    return data.replace(struct.pack("<HHI", 274, 3, 1), struct.pack("<HHI", 274, 3, 2))


def logging_tiff() -> bytes:
    data = encode(picture(5, 3), "TIFF")
    entry = struct.pack("<HHI", 277, 3, 1)
    return data.replace(entry + b"\3\0", entry + b"\x48\0")


def test_pillow_is_silent_while_decoding(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.warns(UserWarning, match="too many entries"):
        Image.open(io.BytesIO(warning_tiff()))
    assert decode_image(warning_tiff()).size == (5, 3)
    with pytest.raises(UnreadableImageError, match="damaged TIFF"):
        decode_image(logging_tiff())
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def test_the_state_of_the_process_stays_as_it_was() -> None:
    filters = list(warnings.filters)
    limit = Image.MAX_IMAGE_PIXELS
    failures: list[Exception] = []

    def decode_many() -> None:
        try:
            for _ in range(40):
                decode_image(warning_tiff())
        except UnreadableImageError as error:
            failures.append(error)

    threads = [threading.Thread(target=decode_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list(warnings.filters) == filters
    assert limit == Image.MAX_IMAGE_PIXELS
    assert not logging.getLogger("PIL.TiffImagePlugin").filters
    with pytest.warns(UserWarning, match="too many entries"):
        Image.open(io.BytesIO(warning_tiff()))


DECODE_ALL = """
import json, sys, time
from pathlib import Path
import numpy as np
from fieldmark.data.images import decode_image
from fieldmark.errors import UnreadableImageError

def peak_mb():
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0)

before = peak_mb()
for name in json.load(sys.stdin):
    start = time.perf_counter()
    answer = {"file": name}
    try:
        image = decode_image(Path(sys.argv[1]) / name)
        array = np.asarray(image)
        answer["size"] = [image.width, image.height]
        answer["mode"] = image.mode
        answer["thumb"] = np.asarray(image.resize((4, 4), 4)).reshape(-1).tolist()
    except UnreadableImageError as error:
        answer["reason"] = str(error)
    answer["seconds"] = time.perf_counter() - start
    answer["grown_mb"] = peak_mb() - before
    print(json.dumps(answer), flush=True)
"""
TOLERANCE = {"strict": 6, "loose": 45, "alpha-on-white": 6}


def fault_of(row: dict[str, str], answer: dict[str, object]) -> str | None:
    """Say what is wrong with the answer to one line of the manifest."""
    if answer["seconds"] > 5 or answer["grown_mb"] > 256:
        return f"took {answer['seconds']:.1f} s, {answer['grown_mb']:.0f} MB"
    if row["expected"] == "either":
        return None
    if row["expected"] == "reject":
        return None if "reason" in answer else "was accepted"
    if "reason" in answer:
        return str(answer["reason"])
    size = [int(row["width"]), int(row["height"])]
    if answer["size"] != size or answer["mode"] != "RGB":
        return f"has size {answer['size']} instead of {size}"
    if row["pixel_check"] not in TOLERANCE:
        return None
    expected = [int(value) for value in row["thumb4"].split()]
    off = max(abs(a - b) for a, b in zip(answer["thumb"], expected, strict=True))
    return None if off <= TOLERANCE[row["pixel_check"]] else f"has pixels off by {off}"


def test_every_odd_and_hostile_file_gets_its_right_answer(shared: Path) -> None:
    folder = shared / "badimages"
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    # A child, because its peak of memory is its own, and because a crash would take pytest along.
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", DECODE_ALL, str(folder)],
        input=json.dumps(list(rows)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    answers = {answer["file"]: answer for answer in map(json.loads, child.stdout.splitlines())}
    faults = dict.fromkeys(rows - answers.keys(), "has no answer: a crash here or before")
    faults |= {name: fault_of(rows[name], answer) for name, answer in answers.items()}
    wrong = [f"{name} {fault}" for name, fault in faults.items() if fault]
    assert not wrong, "\n".join([*wrong, child.stderr[-500:]])
    assert len(answers) >= 163
