"""What a network adds to an audit: records and sentences; the network itself is in `planning`."""

from __future__ import annotations

from dataclasses import dataclass

from fieldmark.data.audit.findings import Finding
from fieldmark.data.audit.groups import CopyGroup

DEFAULT_MODEL = "vit_tiny_patch16_224"


@dataclass(frozen=True)
class Network:
    """Which network looks: a name of the catalog or of timm, and a weights file of one's own.

    Without a file its published weights are taken, and fetched where they are not cached.
    """

    model: str = DEFAULT_MODEL
    weights: str | None = None


@dataclass(frozen=True)
class SuspectLabel:
    """An image whose label the network, which had not seen it or its copies, finds unlikely.

    given_probability and suggested_probability: out of fold, of its label and of the likeliest.
    """

    image: str
    label: str
    suggested: str
    given_probability: float
    suggested_probability: float


@dataclass(frozen=True)
class DeepAudit:
    """What a frozen network and a linear classifier on its features tell of a set.

    accuracy: out of fold, of the images that took part. suspects: worst first. look_alikes: groups
    that the audit without a network had not found. notes: what was left out, and why.
    """

    network: Network
    num_images: int
    accuracy: float | None
    suspects: tuple[SuspectLabel, ...]
    look_alikes: tuple[CopyGroup, ...]
    notes: tuple[str, ...]
    seconds: float


def describe_deep_audit(deep: DeepAudit) -> tuple[Finding, ...]:
    """The findings in sentences."""
    found = []
    if deep.suspects:
        first = deep.suspects[0]
        found.append(
            Finding(
                "wrong labels",
                "look",
                f"{len(deep.suspects):,} of {deep.num_images:,} labels look wrong; first "
                f"{first.image}: '{first.label}' ({first.given_probability:.1%}), rather "
                f"'{first.suggested}' ({first.suggested_probability:.0%}).",
                "Look at them one by one: a network can be wrong too.",
            )
        )
    elif deep.accuracy is not None:
        found.append(Finding("wrong labels", "fine", "No label looks wrong to the network."))
    if deep.look_alikes:
        images = {image for group in deep.look_alikes for image in group.images}
        found.append(
            Finding(
                "copies",
                "look",
                f"{len(deep.look_alikes):,} more groups ({len(images):,} images) are alike to the "
                "network, though no hash finds them.",
            )
        )
    found += [Finding("wrong labels", "look", note) for note in deep.notes]
    return tuple(found)
