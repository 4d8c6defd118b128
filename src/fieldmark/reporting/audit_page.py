"""The page of an audit: one HTML file with the pictures that deserve a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from markupsafe import Markup

from fieldmark.data.audit.auditing import Audit
from fieldmark.data.audit.crops import CropLoss
from fieldmark.data.audit.deep import DeepAudit, SuspectLabel
from fieldmark.data.audit.findings import KIND_NAMES, Finding
from fieldmark.data.audit.groups import CopyGroup
from fieldmark.data.audit.odd import ODD_KINDS, OddImage
from fieldmark.data.class_sizes import PARTS_RULE
from fieldmark.errors import StorageError
from fieldmark.reporting.environment import build_environment
from fieldmark.reporting.thumbnails import Thumbnails
from fieldmark.runs.files import save_text

MARK = '<meta name="generator" content="fieldmark audit'
MARK_BYTES = 2048
SIDE_PX = 112
MAX_GROUPS = 60
MAX_MEMBERS = 8
MAX_ODD = 24
MAX_SUSPECTS = 48
MAX_LISTED = 500


@dataclass(frozen=True)
class Picture:
    """An image as the page shows it: its name, a line below, and its thumbnail if it has one."""

    image: str
    caption: str
    thumbnail: str | None


@dataclass(frozen=True)
class ShownGroup:
    """A group of copies, all the same picture or not. `num_more` of its rows are not shown."""

    how: str
    is_one_picture: bool
    is_disputed: bool
    pictures: tuple[Picture, ...]
    num_more: int


@dataclass(frozen=True)
class ShownCrop:
    """A picture with the box that a crop keeps: x, y, width, height in px."""

    picture: Picture
    loss: CropLoss
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Content:
    """Everything on the page; lists are cut to what fits, the totals are in the audit."""

    audit: Audit
    deep: DeepAudit | None
    findings: tuple[Finding, ...]
    disputed: tuple[ShownGroup, ...]
    agreed: tuple[ShownGroup, ...]
    leaks: tuple[ShownGroup, ...]
    look_alikes: tuple[ShownGroup, ...]
    suspects: tuple[tuple[Picture, SuspectLabel], ...]
    odd: tuple[tuple[Picture, OddImage], ...]
    crops: tuple[ShownCrop, ...]
    num_disputed: int
    num_agreed: int


def render_audit(audit: Audit, deep: DeepAudit | None, findings: Sequence[Finding]) -> str:
    """The page as HTML. It holds all it shows; names are shown as text whatever they contain."""
    environment = build_environment()
    style = "".join(environment.get_template(n).render() for n in ("report.css", "audit.css.j2"))
    page = environment.get_template("audit.html.j2").render(
        content=_gather(audit, deep, tuple(findings)),
        style=Markup(style),
        version=version("fieldmark"),
        size_rule=PARTS_RULE,
        odd_kinds=ODD_KINDS,
        max_listed=MAX_LISTED,
    )
    # A file name whose bytes are not UTF-8, made readable.
    return page.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def check_place(path: Path) -> None:
    """Raise `StorageError` where a page cannot be written: another file or folder is there."""
    if path.is_dir():
        raise StorageError(f"{path}: is a folder; name the page with --out FILE.html")
    try:
        with path.open("rb") as file:
            start = file.read(MARK_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error
    if MARK.encode() not in start:
        raise StorageError(
            f"{path}: is there already and is no page of `fieldmark check`, so it is kept. Name "
            "another with --out FILE.html, or write none with --no-page"
        )


def save_audit_page(
    path: Path, audit: Audit, deep: DeepAudit | None, findings: Sequence[Finding]
) -> Path:
    """Write the page; an older page of an audit is replaced, any other file refused."""
    check_place(path)
    save_text(path, render_audit(audit, deep, findings))
    return path


def _gather(audit: Audit, deep: DeepAudit | None, findings: tuple[Finding, ...]) -> Content:
    pictures = _Pictures(audit)
    may_dispute = audit.table.task != "multilabel"  # there each image has its own set of labels
    disputes = [group for group in audit.duplicates if group.is_disputed and may_dispute]
    agreed = [group for group in audit.duplicates if not (group.is_disputed and may_dispute)]
    suspects = deep.suspects[:MAX_SUSPECTS] if deep else ()
    return Content(
        audit=audit,
        deep=deep,
        findings=findings,
        disputed=pictures.show_groups(disputes),
        agreed=pictures.show_groups(agreed),
        leaks=pictures.show_groups(audit.leaks, with_splits=True),
        look_alikes=pictures.show_groups(deep.look_alikes if deep else ()),
        suspects=tuple((pictures.show(s.image, s.label), s) for s in suspects),
        odd=tuple((pictures.show(o.image, o.reason), o) for o in audit.odd[:MAX_ODD]),
        crops=pictures.show_crops(),
        num_disputed=len(disputes),
        num_agreed=len(agreed),
    )


class _Pictures:
    """Draws each image of the table once, however often it is shown."""

    def __init__(self, audit: Audit) -> None:
        self._crops = audit.crops
        self._draw = cache(lambda image: Thumbnails(audit.table.store).encode(image, SIDE_PX))

    def show(self, image: str, caption: str) -> Picture:
        return Picture(image, caption, self._draw(image))

    def show_groups(
        self, groups: Sequence[CopyGroup], *, with_splits: bool = False
    ) -> tuple[ShownGroup, ...]:
        return tuple(self._show_group(group, with_splits) for group in groups[:MAX_GROUPS])

    def _show_group(self, group: CopyGroup, with_splits: bool) -> ShownGroup:
        def caption(label: str, split: str | None) -> str:
            label = label or "(no label)"
            return f"{split}: {label}" if with_splits and split else label

        rows = group.rows[:MAX_MEMBERS]
        return ShownGroup(
            how=KIND_NAMES[group.kind],
            is_one_picture=group.kind in ("repeated", "exact"),
            is_disputed=group.is_disputed,
            pictures=tuple(self.show(row.image, caption(row.label, row.split)) for row in rows),
            num_more=len(group.rows) - len(rows),
        )

    def show_crops(self) -> tuple[ShownCrop, ...]:
        if self._crops is None:
            return ()
        return tuple(
            ShownCrop(self.show(loss.image, ""), loss, _box(loss)) for loss in self._crops.worst
        )


def _box(loss: CropLoss) -> tuple[float, float, float, float]:
    width, height = loss.width * loss.keeps[0], loss.height * loss.keeps[1]
    return (loss.width - width) / 2, (loss.height - height) / 2, width, height
