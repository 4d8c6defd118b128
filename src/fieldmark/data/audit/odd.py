"""Images that can be read and yet are unlike the others, or unlike what their name says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from fieldmark.data.audit.looking import Look
from fieldmark.data.images import ImageHeader
from fieldmark.data.scan import GREY_SIDE, ImageFacts

OddKind = Literal["ending", "turned", "colours", "blank", "tiny", "strip"]
ODD_KINDS: Mapping[OddKind, str] = {
    "blank": "one colour all over",
    "tiny": "very few pixels",
    "strip": "very long and narrow",
    "ending": "name and content differ",
    "colours": "stored unlike the others",
    "turned": "turned by its EXIF data",
}
TINY_PX = 32
STRIP_ASPECT = 4.0
RARE_SHARE = 0.05

_ENDINGS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "PNG": {".png", ".apng"},
    "WEBP": {".webp"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
    "AVIF": {".avif", ".avifs"},
    "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
}
_KNOWN_ENDINGS = set().union(*_ENDINGS.values())
_COLOURS = {
    "RGB": "RGB",
    "L": "grey",
    "1": "black and white",
    "P": "palette",
    "PA": "palette",
    "RGBA": "RGB with transparency",
    "LA": "grey with transparency",
    "La": "grey with transparency",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
    "LAB": "Lab",
    "I": "deep grey",
    "F": "deep grey",
}


@dataclass(frozen=True)
class OddImage:
    """A readable image that deserves a look, and why."""

    image: str
    kind: OddKind
    reason: str


def find_odd(look: Look) -> tuple[OddImage, ...]:
    """Name what is odd, kind by kind in the order of `ODD_KINDS`.

    A way of storing colours is odd where less than 5% of the images have it: a grey scan among
    photographs, but not a set of pictograms that are all palettes.
    """
    usual = count_colours(look)
    found = [
        odd
        for image, facts in look.scan.facts.items()
        for odd in _judge(facts, look.headers[image], usual, len(look.scan.facts))
    ]
    order = list(ODD_KINDS)
    return tuple(sorted(found, key=lambda odd: (order.index(odd.kind), odd.image)))


def count_colours(look: Look) -> Counter[str]:
    """How many images store their colours in each way, most frequent first."""
    return Counter(_name_colours(header) for header in look.headers.values())


def _judge(
    facts: ImageFacts, header: ImageHeader, usual: Counter[str], num_images: int
) -> Iterator[OddImage]:
    image, size = facts.image, f"{facts.width} x {facts.height} px"
    if _is_blank(facts):
        yield OddImage(image, "blank", "every part has the same brightness and colour")
    if min(facts.width, facts.height) < TINY_PX:
        yield OddImage(image, "tiny", size)
    if max(facts.width, facts.height) > STRIP_ASPECT * min(facts.width, facts.height):
        yield OddImage(image, "strip", size)
    ending = PurePosixPath(image).suffix.lower()
    if ending in _KNOWN_ENDINGS - _ENDINGS.get(header.format, set()):
        yield OddImage(image, "ending", f"ends in {ending} and is a {header.format}")
    colours = _name_colours(header)
    if usual[colours] < RARE_SHARE * num_images:
        yield OddImage(image, "colours", f"{colours}, like {usual[colours]:,} of {num_images:,}")
    if header.orientation != 1:
        yield OddImage(image, "turned", f"EXIF orientation {header.orientation}; shown upright")


def _is_blank(facts: ImageFacts) -> bool:
    values = np.frombuffer(facts.fingerprint, dtype=np.uint8)
    planes = np.split(values, [GREY_SIDE**2, (GREY_SIDE**2 + len(values)) // 2])
    return all(int(np.ptp(plane)) <= 2 for plane in planes)


def _name_colours(header: ImageHeader) -> str:
    if header.mode.startswith("I;16"):
        return "deep grey"
    return _COLOURS.get(header.mode, header.mode)
