"""Faults of a table, gathered kind by kind so that the person hears of all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fieldmark.errors import TableError, UnsafePathError

NUM_SHOWN = 5
MAX_SHOWN = 100


@dataclass(frozen=True)
class FaultKind:
    """What is wrong, and what to do; `unsafe` kinds raise `UnsafePathError`."""

    what: str
    advice: str
    unsafe: bool = False


@dataclass
class Faults:
    """The faults found so far in `source`, whose places are counted in `unit` (line or row)."""

    source: str
    unit: str
    found: dict[FaultKind, list[str]] = field(default_factory=dict)

    def add(self, kind: FaultKind, place: int, detail: str = "") -> None:
        """Record a fault at a place; `detail` says which value."""
        where = f"{self.unit} {place}"
        self.found.setdefault(kind, []).append(f"{where} ({detail})" if detail else where)

    def raise_all(self) -> None:
        """Raise one error that tells of every fault; do nothing if there is none."""
        if not self.found:
            return
        told = [
            f"  {kind.what}: {count(len(places), 'row')}, at {shorten(places)}. {kind.advice}"
            for kind, places in self.found.items()
        ]
        text = "\n".join([f"{self.source} cannot be used as it is:", *told])
        if any(kind.unsafe for kind in self.found):
            raise UnsafePathError(text)
        raise TableError(text)


def count(number: int, noun: str, plural: str = "") -> str:
    """Return "1 row", "2,000 rows"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def shorten(names: Iterable[str], num_shown: int = NUM_SHOWN) -> str:
    """Join the first names; say how many more there are."""
    names = list(names)
    shown = ", ".join(names[:num_shown])
    more = len(names) - num_shown
    return f"{shown} and {more:,} more" if more > 0 else shown


def quoted(names: Iterable[str], num_shown: int = NUM_SHOWN) -> str:
    """Like `shorten`, with every name in quotes."""
    return shorten(map(show, names), num_shown)


def show(text: str) -> str:
    """Return a text of the user's in quotes: cut if long, and harmless for a terminal."""
    return repr(text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}...")
