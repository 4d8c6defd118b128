"""Runs that differ in nothing but their seed are one entry of a comparison."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fieldmark.evaluation.comparison.contenders import Contender, ImageIdentity

_JOINTS = "-_. "


@dataclass(frozen=True)
class Entry:
    """One recipe: its runs in the order of their seeds, and a name for people."""

    name: str
    runs: tuple[Contender, ...]

    @property
    def test_sets(self) -> dict[tuple[ImageIdentity, ...], Contender]:
        """Test set -> the run on it; fewer than runs where several share one."""
        return {run.test: run for run in self.runs}

    @property
    def shares_images(self) -> bool:
        """Whether all seeds were tested on the same images."""
        return len({run.test for run in self.runs}) == 1


def build_entries(contenders: Iterable[Contender]) -> tuple[list[Entry], list[str]]:
    """Group runs by recipe, in no particular order of theirs; with notes for people.

    Where a seed occurs twice in a recipe its runs stand for themselves: they are a run and its
    repetition, and taking them for two seeds would make the spread too small.
    """
    by_recipe: dict[str, list[Contender]] = defaultdict(list)
    for contender in sorted(contenders, key=lambda run: (run.seed, run.path)):
        by_recipe[contender.recipe_key].append(contender)
    groups, notes = [], []
    for runs in by_recipe.values():
        seeds = Counter(run.seed for run in runs)
        again = [seed for seed, count in seeds.items() if count > 1]
        if again:
            named = ", ".join(sorted(run.name for run in runs))
            notes.append(
                f"{named}: are one recipe, with seed {again[0]} more than once, so each is a row "
                "of its own."
            )
            groups += [[run] for run in runs]
        else:
            groups.append(runs)
    names = _name_groups(groups)
    pairs = zip(names, groups, strict=True)
    return sorted((Entry(n, tuple(g)) for n, g in pairs), key=lambda e: e.name), sorted(notes)


def _name_groups(groups: Sequence[Sequence[Contender]]) -> list[str]:
    """A short name each; with its folder, or its whole path, where two would be equal."""
    for depth in (1, 2, 3):
        names = [_name_group(group, depth) for group in groups]
        if len(set(names)) == len(names):
            return names
    return [group[0].path for group in groups]


def _name_group(group: Sequence[Contender], depth: int) -> str:
    paths = ["/".join(run.folder.path.parts[-depth:]) for run in group]
    if len(paths) == 1:
        return paths[0]
    common = _shared_start(paths)
    bare = common.rstrip("0123456789")
    for word in ("seed", "s", ""):
        stem = bare.removesuffix(word)
        if bare.endswith(word) and (not stem or stem.endswith(tuple(_JOINTS))):
            common = stem.rstrip(_JOINTS)
            break
    return common.strip("/") or f"{paths[0]} and {len(paths) - 1} more"


def _shared_start(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)
    length = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    return first[:length]
