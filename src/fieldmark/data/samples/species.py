"""The leaves: one record per species. Look-alikes stand side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fieldmark.data.samples.drawing import Colour

MarginForm = Literal[
    "entire", "wavy", "serrate", "doubly-serrate", "crenate", "spiny", "lobed", "jagged"
]
Venation = Literal["pinnate", "palmate", "parallel", "dichotomous"]
Arrangement = Literal["single", "lobes", "leaflets", "needles"]
HalfOutline = tuple[tuple[float, float], ...]

GOLD = ((214, 164, 40), (190, 176, 62), (222, 186, 74))
FIRE = ((204, 104, 34), (168, 52, 38), (214, 152, 44))
RUSSET = ((142, 96, 48), (184, 112, 40), (196, 158, 66))


@dataclass(frozen=True)
class Margin:
    """Teeth or lobes along one side of a blade; `depth` in blade lengths."""

    form: MarginForm
    count: int = 0
    depth: float = 0.0


@dataclass(frozen=True)
class Species:
    """What tells one species from another.

    `outline` runs from base to tip along one side of a blade: distance along the midrib and half
    width, both in blade lengths. `num_veins` counts the side veins on each side of a blade,
    `num_parts` the side lobes, leaflets or needles on each side of a leaf. `petiole` is its length
    in leaf lengths, `gloss` runs from 0 to 1, and `autumn` is the share of leaves that have turned.
    """

    name: str
    outline: HalfOutline
    margin: Margin
    num_veins: int
    venation: Venation = "pinnate"
    arrangement: Arrangement = "single"
    num_parts: int = 0
    petiole: float = 0.2
    gloss: float = 0.25
    autumn: float = 0.2
    autumn_colours: tuple[Colour, ...] = GOLD


OVATE = (
    (0.0, 0.0),
    (0.05, 0.14),
    (0.2, 0.27),
    (0.42, 0.295),
    (0.68, 0.2),
    (0.88, 0.075),
    (1.0, 0.0),
)
CORDATE = (
    (0.06, 0.0),
    (-0.05, 0.1),
    (-0.06, 0.24),
    (0.08, 0.38),
    (0.3, 0.4),
    (0.6, 0.24),
    (0.84, 0.075),
    (1.0, 0.0),
)
LANCEOLATE = ((0.0, 0.0), (0.1, 0.055), (0.3, 0.092), (0.55, 0.082), (0.8, 0.04), (1.0, 0.0))
ELLIPTIC = (
    (0.0, 0.0),
    (0.08, 0.12),
    (0.28, 0.215),
    (0.5, 0.235),
    (0.74, 0.19),
    (0.92, 0.08),
    (1.0, 0.0),
)
OBOVATE = (
    (0.0, 0.0),
    (0.12, 0.07),
    (0.35, 0.2),
    (0.62, 0.33),
    (0.82, 0.32),
    (0.95, 0.18),
    (0.97, 0.0),
)
OAKEN = (
    (0.0, 0.0),
    (0.12, 0.07),
    (0.36, 0.19),
    (0.62, 0.26),
    (0.84, 0.22),
    (0.97, 0.1),
    (1.0, 0.0),
)
LEAFLET = ((0.0, 0.0), (0.1, 0.075), (0.35, 0.128), (0.65, 0.11), (0.88, 0.045), (1.0, 0.0))
LOBE = ((0.0, 0.0), (0.2, 0.13), (0.42, 0.2), (0.62, 0.17), (0.8, 0.09), (1.0, 0.0))
FAN = (
    (0.0, 0.0),
    (0.2, 0.07),
    (0.42, 0.3),
    (0.55, 0.56),
    (0.64, 0.6),
    (0.78, 0.46),
    (0.88, 0.25),
    (0.9, 0.07),
    (0.62, 0.0),
)
NEEDLE = ((0.0, 0.0), (0.2, 0.055), (0.7, 0.05), (1.0, 0.0))

SPECIES = (
    Species("beech", OVATE, Margin("wavy", 6, 0.007), 6, autumn=0.4, autumn_colours=RUSSET),
    Species(
        "hornbeam",
        OVATE,
        Margin("doubly-serrate", 10, 0.032),
        num_veins=10,
        autumn=0.4,
        autumn_colours=RUSSET,
    ),
    Species("lilac", CORDATE, Margin("entire"), num_veins=5, petiole=0.3),
    Species("linden", CORDATE, Margin("serrate", 16, 0.028), 5, venation="palmate", petiole=0.3),
    Species("bamboo", LANCEOLATE, Margin("entire"), 3, venation="parallel", petiole=0.08),
    Species("willow", LANCEOLATE, Margin("serrate", 22, 0.011), 11, petiole=0.08),
    Species(
        "ash",
        LEAFLET,
        Margin("entire"),
        num_veins=4,
        arrangement="leaflets",
        num_parts=4,
        autumn=0.4,
        autumn_colours=FIRE,
    ),
    Species(
        "rowan",
        LEAFLET,
        Margin("serrate", 9, 0.045),
        num_veins=5,
        arrangement="leaflets",
        num_parts=5,
        autumn=0.4,
        autumn_colours=FIRE,
    ),
    Species(
        "maple",
        LOBE,
        Margin("jagged", 3, 0.06),
        num_veins=3,
        arrangement="lobes",
        num_parts=2,
        petiole=0.4,
        autumn=0.6,
        autumn_colours=FIRE,
    ),
    Species(
        "oak",
        OAKEN,
        Margin("lobed", 4, 0.075),
        num_veins=4,
        petiole=0.1,
        autumn=0.4,
        autumn_colours=RUSSET,
    ),
    Species(
        "ginkgo",
        FAN,
        Margin("wavy", 9, 0.008),
        num_veins=9,
        venation="dichotomous",
        petiole=0.4,
        autumn=0.6,
    ),
    Species("holly", ELLIPTIC, Margin("spiny", 5, 0.075), 5, petiole=0.08, gloss=0.9, autumn=0.0),
    Species("alder", OBOVATE, Margin("crenate", 12, 0.022), 6, autumn=0.2),
    Species(
        "fir",
        NEEDLE,
        Margin("entire"),
        num_veins=0,
        arrangement="needles",
        num_parts=22,
        petiole=0.1,
        autumn=0.0,
    ),
)
