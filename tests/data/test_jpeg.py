"""The quick way from a JPEG to pixels against Pillow's: the same bits, the same refusals."""

from __future__ import annotations

import random
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fieldmark.data import images
from fieldmark.data.images import decode_pixels
from fieldmark.data.jpeg import LeastSize, read_jpeg_header
from fieldmark.errors import UnreadableImageError

SIZES = ((1, 1), (7, 9), (33, 65), (100, 31), (160, 120))


def encode(width: int, height: int, mode: str = "RGB", **options: object) -> bytes:
    generator = np.random.default_rng(width)
    noise = generator.integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    file = BytesIO()
    picture.convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def decode(data: bytes, least_size: LeastSize | None = None) -> NDArray[np.uint8] | str:
    """The pixels, or why there are none."""
    try:
        return decode_pixels(data, least_size=least_size)
    except UnreadableImageError as error:
        return str(error)


def decode_both_ways(
    monkeypatch: pytest.MonkeyPatch, data: bytes, least_size: LeastSize | None = None
) -> tuple[NDArray[np.uint8] | str, NDArray[np.uint8] | str]:
    quick = decode(data, least_size)
    with monkeypatch.context() as patch:
        patch.setattr(images, "read_jpeg_header", lambda data: None)
        return quick, decode(data, least_size)


def is_same(one: NDArray[np.uint8] | str, other: NDArray[np.uint8] | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one is other or (isinstance(one, str) and one == other)
    return one.shape == other.shape and np.array_equal(one, other)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_pixels_are_those_of_pillow(
    monkeypatch: pytest.MonkeyPatch, mode: str, progressive: bool, subsampling: int
) -> None:
    for quality in (5, 60, 95):
        for size in SIZES:
            data = encode(
                *size, mode, quality=quality, progressive=progressive, subsampling=subsampling
            )
            assert is_same(*decode_both_ways(monkeypatch, data)), (quality, size)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("share", [1, 2, 3, 5, 8, 20])
def test_parts_of_the_size_are_those_of_pillow(
    monkeypatch: pytest.MonkeyPatch, orientation: int, share: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation

    def least(height: int, width: int) -> tuple[int, int]:
        return max(1, height // share), max(1, width // share)

    for size in SIZES:
        data = encode(*size, exif=exif)
        assert is_same(*decode_both_ways(monkeypatch, data, least)), size


def test_damaged_files_are_judged_as_pillow_judges_them(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(0)
    whole = [encode(100, 31), encode(33, 65, progressive=True), encode(40, 40, "L", quality=30)]
    refused = 0
    for number in range(600):
        data = bytearray(whole[number % len(whole)])
        for _ in range(generator.choice((1, 1, 3))):
            place = generator.randrange(3, len(data))
            change = generator.choice(("write", "write", "drop", "insert", "cut"))
            if change == "write":
                data[place] = generator.randrange(256)
            elif change == "drop":
                del data[place : place + generator.randrange(1, 20)]
            elif change == "insert":
                data[place:place] = generator.randbytes(4)
            elif place > 40:
                del data[place:]
        quick, slow = decode_both_ways(monkeypatch, bytes(data))
        assert is_same(quick, slow), bytes(data).hex()
        refused += isinstance(slow, str)
    assert 100 < refused < 590


def test_flawless_files_take_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("Pillow was asked")

    monkeypatch.setattr(images, "_open", refuse)
    exif = Image.Exif()
    exif[0x0112] = 6

    assert decode_pixels(encode(48, 32)).shape == (32, 48, 3)
    assert decode_pixels(encode(48, 32, "L", progressive=True)).shape == (32, 48, 3)
    assert decode_pixels(encode(48, 32, exif=exif)).shape == (48, 32, 3)


def test_the_header_tells_size_and_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    header = read_jpeg_header(encode(48, 32, exif=exif))

    assert header is not None
    assert (header.height, header.width, header.orientation) == (32, 48, 8)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        encode(48, 32)[:60],
        encode(48, 32, "CMYK"),
        encode(48, 32).replace(b"\xff\xc0", b"\xff\xc9", 1),  # arithmetic coding
    ],
    ids=["empty", "start", "cut", "CMYK", "arithmetic"],
)
def test_what_is_out_of_the_ordinary_is_left_to_pillow(data: bytes) -> None:
    assert read_jpeg_header(data) is None
