"""What makes a score less than it looks: named, for people, beside the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fieldmark.evaluation.predictions import Predictions

_NAMED = 5


def note_doubts(
    predictions: Predictions, train_counts: Sequence[int] | None = None
) -> tuple[str, ...]:
    """Sentences about labels the model cannot know and classes that one image speaks for.

    train_counts: (K,) training images of each class, where they are known.
    """
    tested = Counter(index for targets in predictions.targets for index in targets)
    names = predictions.class_names
    notes = []
    untrained = [
        names[index] for index in sorted(tested) if train_counts and train_counts[index] == 0
    ]
    if untrained:
        notes.append(
            f"Images of {_count(untrained, 'class')} in this split that training never saw count "
            f"as wrong: {_name(untrained)}."
        )
    known = set(names)
    unknown = Counter(
        label
        for label, targets in zip(predictions.labels, predictions.targets, strict=True)
        if label and not targets and label not in known
    )
    if unknown:
        notes.append(
            f"{unknown.total():,} images are left out: the model does not know their labels "
            f"({_name(sorted(unknown))})."
        )
    single = [names[index] for index in sorted(tested) if tested[index] == 1]
    if single:
        notes.append(
            f"{_count(single, 'class')} with one image in this split: {_name(single)}. Their "
            "recall is 0 or 1, and the intervals of scores that are means over classes are too "
            "narrow."
        )
    return tuple(notes)


def _count(found: Sequence[str], what: str) -> str:
    return f"1 {what}" if len(found) == 1 else f"{len(found):,} {what}es"


def _name(found: Sequence[str]) -> str:
    more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more
