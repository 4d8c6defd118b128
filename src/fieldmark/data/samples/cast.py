"""The characters: one record each, from the most to the least pictured.

Look-alikes share all but one or two traits: aoi and shizuku (eyes), haruka and sayo (ornament),
kuro and yoru (glasses or eyepatch), ren and kaito (eyes and scarf). The second is the rarer one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fieldmark.data.samples.drawing import Colour

HairStyle = Literal[
    "long hair",
    "short hair",
    "bob cut",
    "twin tails",
    "ponytail",
    "hair bun",
    "double bun",
    "twin braids",
    "spiky hair",
]
Bangs = Literal["blunt", "parted", "swept", "messy", "spiky"]
EyeShape = Literal["round", "sharp", "gentle", "narrow"]
Accessory = Literal[
    "beret",
    "cat ears",
    "eyepatch",
    "glasses",
    "hair clip",
    "hair flower",
    "hair ribbon",
    "hairband",
    "headphones",
    "scarf",
]

HAIR_COLOURS: dict[str, Colour] = {
    "black": (62, 58, 78),
    "blonde": (246, 214, 122),
    "blue": (98, 142, 214),
    "brown": (150, 102, 74),
    "green": (122, 180, 138),
    "orange": (238, 148, 82),
    "pink": (244, 168, 190),
    "purple": (158, 126, 204),
    "red": (206, 78, 82),
    "silver": (214, 216, 230),
}
EYE_COLOURS: dict[str, Colour] = {
    "amber": (226, 158, 44),
    "blue": (52, 122, 210),
    "brown": (138, 84, 52),
    "green": (52, 158, 98),
    "pink": (226, 92, 148),
    "red": (206, 52, 62),
    "violet": (132, 84, 198),
}


@dataclass(frozen=True)
class Character:
    """What tells one character from another; `ornament` colours the accessories."""

    name: str
    hair: str
    style: HairStyle
    bangs: Bangs
    eyes: str
    eye_shape: EyeShape
    accessories: tuple[Accessory, ...] = ()
    ornament: Colour = (214, 62, 78)
    subject: Literal["1 girl", "1 boy"] = "1 girl"


CAST = (
    Character("aoi", "blue", "twin tails", "messy", "blue", "round", ("hair ribbon",)),
    Character("haruka", "pink", "long hair", "parted", "green", "gentle", ("hair flower",)),
    Character("kuro", "black", "bob cut", "blunt", "red", "sharp", ("glasses",)),
    Character("hikari", "blonde", "long hair", "swept", "blue", "round", ("hairband",)),
    Character("ren", "black", "spiky hair", "spiky", "amber", "narrow", subject="1 boy"),
    Character("mikan", "orange", "short hair", "messy", "green", "sharp", ("cat ears",)),
    Character(
        "yuki", "silver", "long hair", "blunt", "violet", "gentle", ("headphones",), (84, 92, 120)
    ),
    Character(
        "kaede", "brown", "hair bun", "parted", "brown", "gentle", ("hair clip",), (240, 190, 60)
    ),
    Character("shizuku", "blue", "twin tails", "messy", "amber", "round", ("hair ribbon",)),
    Character("nagi", "green", "short hair", "swept", "amber", "round", ("beret",), (156, 84, 74)),
    Character("sumire", "purple", "twin braids", "blunt", "violet", "gentle", ("glasses",)),
    Character("yoru", "black", "bob cut", "blunt", "red", "sharp", ("eyepatch",)),
    Character(
        "akane", "red", "ponytail", "swept", "brown", "sharp", ("hair ribbon",), (250, 244, 236)
    ),
    Character(
        "kaito",
        "black",
        "spiky hair",
        "spiky",
        "blue",
        "narrow",
        ("scarf",),
        (206, 72, 66),
        "1 boy",
    ),
    Character(
        "sayo", "pink", "long hair", "parted", "green", "gentle", ("hair clip",), (86, 148, 220)
    ),
    Character("momo", "pink", "double bun", "parted", "pink", "round"),
)
