"""Which column of a table holds what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fieldmark.data.sources.faults import quoted
from fieldmark.errors import TableError, hint, nearest

ROLES = ("image", "label", "tags", "split", "group")

# Names under which people keep these columns: only to suggest them, never to take them unasked.
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "image": ("path", "file", "filename", "file_name", "filepath", "image_path", "img", "id"),
    "label": ("class", "labels", "target", "category", "species", "class_name", "y"),
}


def choose_columns(
    names: Sequence[str], columns: Mapping[str, str], *, labelled: bool, source: str
) -> dict[str, int]:
    """Return role -> position among `names`, for the roles that the table has.

    `columns` (role -> name) overrides the default, which is a column named like its role.
    Raises `TableError` for unknown roles and for missing or repeated columns.
    """
    check_roles(columns)
    needed = {"image", "label"} if labelled else {"image"}
    chosen: dict[str, int] = {}
    faults = []
    for role in ROLES if labelled else ("image", "tags"):
        name = columns.get(role, role)
        places = [place for place, other in enumerate(names) if other == name]
        if len(places) == 1:
            chosen[role] = places[0]
        elif places:
            faults.append(f"it has {len(places)} columns named '{name}'; rename all but one")
        elif role in columns or role in needed:
            faults.append(_missing(role, name, names))
    if faults:
        existing = quoted(names, num_shown=20) or "none"
        raise TableError(f"{source}: {'; '.join(faults)}. Its columns: {existing}.")
    return chosen


def check_roles(columns: Mapping[str, str]) -> None:
    """Raise `TableError` if `columns` names a role that does not exist."""
    for role in columns:
        if role not in ROLES:
            raise TableError(
                f"--column {role}=...: '{role}' is no role of a column; "
                f"there are {quoted(ROLES)}.{hint(role, ROLES)}"
            )


def _missing(role: str, name: str, names: Sequence[str]) -> str:
    text = f"there is no column '{name}'"
    if len(names) == 1 and any(separator in names[0] for separator in ";|\t"):
        return f"{text}, and only one column: write the table with ',' (.csv) or tabs (.tsv)"
    lowered = {other.lower(): other for other in reversed(names)}
    close = [lowered[other] for other in (name.lower(), role) if other in lowered]
    close += [lowered[other] for other in _OTHER_NAMES.get(role, ()) if other in lowered]
    close += nearest(name, names)
    if role == "label" and not close:
        return f"{text}: say which holds the labels with --column label=NAME"
    suggestion = close[0] if close else "NAME"
    return f"{text}: say which one it is with --column {role}={suggestion}"
