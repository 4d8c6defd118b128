"""The layers of a network as a tree for reading: nested, with equal neighbours as one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fieldmark.models.summary.table import LayerRow


@dataclass
class Branch:
    """A module with everything inside it; the last of `count` equal ones that follow each other.

    parameters, mult_adds: of this one, with all that is inside.
    """

    label: str
    kind: str = ""
    output_shape: tuple[int, ...] = ()
    parameters: int = 0
    mult_adds: int = 0
    activation_bytes: int = 0
    receptive_field: int | Literal["all"] | None = None
    count: int = 1
    inside: list[Branch] = field(default_factory=list)

    def looks_like(self, other: Branch) -> bool:
        """Whether both are the same but for their own label."""
        return (
            (self.kind, self.output_shape, self.parameters, self.mult_adds)
            == (other.kind, other.output_shape, other.parameters, other.mult_adds)
            and [inner.label for inner in self.inside] == [inner.label for inner in other.inside]
            and all(map(Branch.looks_like, self.inside, other.inside))
        )


def grow_tree(rows: Sequence[LayerRow]) -> Branch:
    """Nest rows by their dotted names, in the order of the calls."""
    root = Branch("")
    latest: dict[str, Branch] = {"": root}
    for row in rows:
        branch = root if row.name == "" else _branch_at(row.name, latest)
        branch.kind = row.kind
        branch.output_shape = row.output_shape
        branch.activation_bytes = row.activation_bytes
        branch.receptive_field = row.receptive_field
        path = row.name.split(".") if row.name else []
        for depth in range(len(path) + 1):
            above = latest[".".join(path[:depth])]
            above.parameters += row.parameters
            above.mult_adds += row.mult_adds
    _fold(root)
    return root


def walk(
    tree: Branch, depth: int, level: int = 0, times: int = 1
) -> Iterator[tuple[int, int, Branch]]:
    """Yield (level, how many there are, branch) down to `depth` levels below the root."""
    for branch in tree.inside:
        there_are = times * branch.count
        yield level, there_are, branch
        if level + 1 < depth:
            yield from walk(branch, depth, level + 1, there_are)


def _branch_at(name: str, latest: dict[str, Branch]) -> Branch:
    """Make a new branch, and those above it that were not called themselves."""
    above, _, label = name.rpartition(".")
    if above not in latest:
        _branch_at(above, latest)
    branch = Branch(label)
    latest[above].inside.append(branch)
    latest[name] = branch
    return branch


def _fold(tree: Branch) -> None:
    """Make one branch of equal numbered neighbours, from the leaves up; the last one stays."""
    folded: list[Branch] = []
    for branch in tree.inside:
        _fold(branch)
        last = folded[-1] if folded else None
        is_numbered = branch.label.isdigit() and last is not None and last.label[0].isdigit()
        if last is not None and is_numbered and last.looks_like(branch):
            branch.label = f"{last.label.partition('-')[0]}-{branch.label}"
            branch.count = last.count + 1
            folded[-1] = branch
        else:
            folded.append(branch)
    tree.inside = folded
