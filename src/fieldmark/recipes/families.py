"""Families of recipes: one file holds what many share, the words of their names, their scores.

A name is the family's prefix and at most one word of each group, in the order of the groups. The
recipe is the common part with the part of each word laid over it in the same order, so that every
combination is a recipe; those that a published table has are listed, with their scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from fieldmark.recipes.headers import render_header
from fieldmark.recipes.schema import Recipe
from fieldmark.recipes.values import Values, merge_values, render_values, sort_values

FAITHFUL = "as-published"


@dataclass(frozen=True)
class Word:
    """A word of recipe names.

    line: what it means, for the description; empty where it only says a default.
    kind: what it shares with others: a part of the recipe, and how other words refer to it.
    only: the words or kinds that it goes with; empty: any.
    recipe: the part of the recipe that it stands for.
    with_: further parts, by the word or kind that must be in the name too.
    data: DATA to show in the command, where it differs from the family's.
    """

    line: str = ""
    kind: str = ""
    only: tuple[str, ...] = ()
    recipe: Values = field(default_factory=dict)
    with_: dict[str, Values] = field(default_factory=dict)
    data: str = ""


@dataclass(frozen=True)
class Group:
    """Words of which a name takes one, or none where the group is not required."""

    name: str
    words: dict[str, Word]
    required: bool = False


@dataclass(frozen=True)
class Note:
    """A sentence for the header of the recipes that have one word or kind and not another."""

    text: str
    present: str
    absent: str | None = None

    def fits(self, present: Set[str]) -> bool:
        """Whether it belongs to a recipe of these words and kinds."""
        return self.present in present and self.absent not in present


@dataclass(frozen=True)
class PublishedTable:
    """Scores of a published table.

    scores, differences: row -> one number per column; the differences are relative, in percent.
    baselines: row -> (title, row) of what its differences are relative to.
    """

    title: str
    columns: tuple[str, ...]
    scores: dict[str, tuple[float, ...]]
    differences: dict[str, tuple[float, ...]]
    baselines: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Family:
    """Recipes that share most of what they say.

    prefix: what names start with; may be empty. title: what descriptions start with.
    about: a sentence on all. data: DATA to show in commands. score: what the published numbers
    are. common: the part of every recipe. kinds: parts of the recipe by the kind of a word.
    """

    prefix: str
    title: str
    about: str
    data: str
    score: str
    common: Values
    kinds: dict[str, Values]
    groups: tuple[Group, ...]
    notes: tuple[Note, ...]
    tables: tuple[PublishedTable, ...]
    costs: dict[str, str]

    def rows(self) -> dict[str, str]:
        """Name -> its scores in words, of every published row, in the order of the tables."""
        scores: dict[str, dict[str, float]] = {}
        titles: dict[str, list[str]] = {}
        for table in self.tables:
            for row, values in table.scores.items():
                scores.setdefault(row, {}).update(zip(table.columns, values, strict=True))
                titles.setdefault(row, []).append(table.title)
        return {
            self.full_name(row): _tell_scores(found, titles[row]) for row, found in scores.items()
        }

    def names(self) -> list[str]:
        """Every published row, as corrected and, where there is such a reading, as published."""
        names = list(self.rows())
        return names + [f"{n}-{FAITHFUL}" for n in names if self._goes(f"{n}-{FAITHFUL}")]

    def full_name(self, row: str) -> str:
        """The recipe's name of a row of the tables."""
        return f"{self.prefix}-{row}" if self.prefix else row

    def find_words(self, name: str) -> dict[str, Word] | None:
        """Return the words of a recipe's name in order; None: it is not of this family."""
        start = f"{self.prefix}-" if self.prefix else ""
        if not name.startswith(start) or name.endswith("-"):
            return None
        rest, found = name.removeprefix(start), {}
        for group in self.groups:
            fitting = [word for word in group.words if f"{rest}-".startswith(f"{word}-")]
            if fitting:
                word = max(fitting, key=len)
                found[word] = group.words[word]
                rest = rest[len(word) + 1 :]
            elif group.required:
                return None
        return None if rest else found

    def sort_words(self, name: str) -> str | None:
        """Return the name with the same words in the right order; None: there are others in it."""
        start = f"{self.prefix}-" if self.prefix else ""
        rest, found = name.removeprefix(start), {}
        every = {word: place for place, group in enumerate(self.groups) for word in group.words}
        while rest:
            fitting = [word for word in every if f"{rest}-".startswith(f"{word}-")]
            if not fitting:
                return None
            word = max(fitting, key=len)
            found[every[word]] = word
            rest = rest[len(word) + 1 :]
        sorted_name = self.full_name("-".join(found[place] for place in sorted(found)))
        return sorted_name if self._goes(sorted_name) else None

    def describe(self, words: Mapping[str, Word]) -> str:
        """One line on the recipe of these words."""
        return ", ".join(word.line for word in words.values() if word.line)

    def compose(self, words: Mapping[str, Word]) -> Values:
        """The recipe of these words, as far as it differs from the defaults."""
        present = _name_all(words)
        values: Values = {"description": f"{self.title}{self.describe(words)}"}
        values = merge_values(values, self.common)
        for word in words.values():
            values = merge_values(values, self.kinds.get(word.kind, {}))
            values = merge_values(values, word.recipe)
            for other, part in word.with_.items():
                values = merge_values(values, part) if other in present else values
        return sort_values(values, Recipe)

    def render(self, name: str, words: Mapping[str, Word]) -> str:
        """The recipe as a file, with a header as every shipped recipe has it."""
        present = _name_all(words)
        row = name.removesuffix(f"-{FAITHFUL}")
        header = render_header(
            name,
            line=f"{self.title}{self.describe(words)}",
            data=next((word.data for word in words.values() if word.data), self.data),
            cost=self.costs.get(row.removeprefix(f"{self.prefix}-")),
            score=self.rows().get(row),
            measure=self.score,
            notes=[note.text for note in self.notes if note.fits(present)],
        )
        return "\n".join([*header, *render_values(self.compose(words))]) + "\n"

    def find_misfit(self, words: Mapping[str, Word]) -> tuple[str, list[str]] | None:
        """Return a word that goes only with others than there are, and the words it goes with."""
        present = _name_all(words)
        for name, word in words.items():
            if word.only and not present & set(word.only):
                every = (item for group in self.groups for item in group.words.items())
                return name, [w for w, other in every if {w, other.kind} & set(word.only)]
        return None

    def _goes(self, name: str) -> bool:
        words = self.find_words(name)
        return words is not None and self.find_misfit(words) is None


def _name_all(words: Mapping[str, Word]) -> Set[str]:
    """Words and their kinds: whatever other words can refer to."""
    return {*words, *(word.kind for word in words.values())}


def _tell_scores(scores: Mapping[str, float], titles: Sequence[str]) -> str:
    text = ", ".join(f"{score:.2f} {column}" for column, score in scores.items())
    return f"{text} ({', '.join(titles)})"
