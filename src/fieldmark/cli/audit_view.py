"""An audit as JSON and as what a person reads."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from fieldmark.data.audit.findings import KIND_NAMES
from fieldmark.data.class_sizes import PARTS_RULE, Part

if TYPE_CHECKING:
    from fieldmark.data.audit.auditing import Audit
    from fieldmark.data.audit.crops import CropReport
    from fieldmark.data.audit.deep import DeepAudit
    from fieldmark.data.audit.groups import CopyGroup
    from fieldmark.verbs.audit import Check

Shown = str | Table | Text
STYLES = {"fix": "bold red", "look": "yellow", "fine": "green"}
GROUPS_SHOWN = 5
BAR_WIDTH = 20


def as_json(found: Check) -> dict[str, object]:
    """The whole audit, nothing shortened."""
    audit = found.audit
    return {
        "data": audit.table.source,
        "num_images": audit.num_images,
        "num_rows": len(audit.table),
        "num_classes": len(audit.classes),
        "findings": [asdict(finding) for finding in found.findings],
        "unreadable": [
            {"image": bad.image, "label": bad.label, "error": bad.reason}
            for bad in audit.unreadable
        ],
        "unlabelled": list(audit.unlabelled),
        "odd": [asdict(odd) for odd in audit.odd],
        "colours": dict(audit.colours),
        "duplicates": [_group_as_json(group) for group in audit.duplicates],
        "naive_leak": audit.naive_leak,
        "leaks": [_group_as_json(group) for group in audit.leaks],
        "classes": _classes_as_json(audit),
        "size_rule": PARTS_RULE,
        "similar_names": [list(names) for names in audit.similar_names],
        "tag_leaks": [asdict(leak) for leak in audit.tag_leaks],
        "crops": None if audit.crops is None else _crops_as_json(audit.crops),
        "deep": None if found.deep is None else _deep_as_json(found.deep),
        "notes": list(audit.table.notes),
        "seconds": round(audit.seconds, 2),
    }


def _group_as_json(group: CopyGroup) -> dict[str, object]:
    return {
        "kind": group.kind,
        "images": list(group.images),
        "labels": list(group.labels),
        "disputed": group.is_disputed,
        "splits": list(group.splits),
        "rows": [
            {"image": row.image, "label": row.label, "split": row.split} for row in group.rows
        ],
    }


def _classes_as_json(audit: Audit) -> list[dict[str, object]]:
    return [
        {
            "label": entry.name,
            "num_images": entry.num_images,
            "num_pictures": entry.num_pictures,
            "num_unreadable": entry.num_unreadable,
            "size": entry.size,
            "num_test": entry.num_test,
            "too_small": entry.is_too_small,
            "splits": None
            if entry.counts is None
            else dict(zip(("train", "val", "test"), entry.counts, strict=True)),
        }
        for entry in audit.classes
    ]


def _crops_as_json(crops: CropReport) -> dict[str, object]:
    values = asdict(crops)
    values["worst"] = [asdict(loss) for loss in crops.worst]
    return values


def _deep_as_json(deep: DeepAudit) -> dict[str, object]:
    return {
        "model": deep.network.model,
        "weights": deep.network.weights,
        "num_images": deep.num_images,
        "accuracy": deep.accuracy,
        "suspects": [asdict(suspect) for suspect in deep.suspects],
        "look_alikes": [_group_as_json(group) for group in deep.look_alikes],
        "notes": list(deep.notes),
        "seconds": round(deep.seconds, 2),
    }


def draw_audit(found: Check) -> list[Shown]:
    """Findings, then the first groups under different labels, the first leaks, the classes."""
    audit = found.audit
    shown: list[Shown] = [
        f"data     {audit.table.source}",
        f"images   {audit.num_images:,} of {len(audit.classes):,} classes, looked at in "
        f"{audit.seconds:.1f} s",
        *(f"note     {note}" for note in audit.table.notes),
    ]
    shown.append(_draw_findings(found))
    disputed = [group for group in audit.duplicates if group.is_disputed]
    if disputed and audit.table.task != "multilabel":
        shown.append(_draw_groups("one picture, several labels", disputed))
    if audit.leaks:
        shown.append(_draw_groups("on several sides of the split", audit.leaks, with_splits=True))
    if found.deep is not None and found.deep.suspects:
        shown.append(_draw_suspects(found.deep))
    if audit.classes:
        shown.append(_draw_sizes(audit))
    return shown


def _draw_findings(found: Check) -> Table:
    table = _table()
    table.add_column("", no_wrap=True)
    table.add_column("topic", no_wrap=True)
    table.add_column("found", overflow="fold", ratio=1)
    for finding in found.findings:
        text = Text(finding.text)
        if finding.advice:
            text.append(f"\n{finding.advice}", style="dim")
        style = STYLES[finding.level]
        table.add_row(Text(finding.level, style=style), finding.topic, text)
    return table


def _draw_groups(
    title: str, groups: list[CopyGroup] | tuple[CopyGroup, ...], *, with_splits: bool = False
) -> Table:
    more = f", first {GROUPS_SHOWN} of {len(groups):,}" if len(groups) > GROUPS_SHOWN else ""
    table = _table(title + more)
    table.add_column("how", no_wrap=True)
    table.add_column("images and labels", overflow="fold", ratio=1)
    for group in groups[:GROUPS_SHOWN]:
        cell = Text()
        for number, row in enumerate(group.rows):
            side = f" in {row.split}" if with_splits else ""
            cell.append("\n" if number else "").append(row.image)
            cell.append(f"  {row.label or '(no label)'}{side}", style="dim")
        table.add_row(KIND_NAMES[group.kind], cell)
    return table


def _draw_suspects(deep: DeepAudit) -> Table:
    count = len(deep.suspects)
    more = f", first {GROUPS_SHOWN} of {count:,}" if count > GROUPS_SHOWN else ""
    table = _table("labels that look wrong" + more)
    for heading in ("image", "label", "rather"):
        table.add_column(heading, overflow="fold")
    for suspect in deep.suspects[:GROUPS_SHOWN]:
        table.add_row(
            Text(suspect.image),
            Text(f"{suspect.label} {suspect.given_probability:.1%}"),
            Text(f"{suspect.suggested} {suspect.suggested_probability:.0%}"),
        )
    return table


def _draw_sizes(audit: Audit) -> Table:
    table = _table("classes by size")
    table.add_column("", no_wrap=True)
    for heading in ("classes", "images", "each"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("share of images", no_wrap=True)
    total = sum(entry.num_images for entry in audit.classes)
    sizes: tuple[Part, ...] = ("head", "middle", "tail")
    for size in sizes:
        counts = [entry.num_images for entry in audit.classes if entry.size == size]
        if not counts:
            continue
        share = sum(counts) / total
        each = (
            f"{min(counts):,}"
            if min(counts) == max(counts)
            else (f"{min(counts):,} to {max(counts):,}")
        )
        bar = Text("█" * max(1, round(BAR_WIDTH * share)), style="cyan")
        table.add_row(
            size,
            f"{len(counts):,}",
            f"{sum(counts):,}",
            each,
            bar.append(f" {share:.0%}", style="default"),
        )
    return table


def _table(title: str | None = None) -> Table:
    return Table(
        title=None if title is None else Text(title, style="bold"),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
