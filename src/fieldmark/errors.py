"""Every error that a user's input can cause.

```
FieldmarkError                     exit code 2: the input is at fault, and the text says what to do
├── RecipeError                    unknown key, value out of range, recipe not found
├── DataError
│   ├── TableError                 a table, folder or dataset that cannot be read as one
│   ├── UnsafePathError            an image path that leaves the image root
│   ├── UnreadableImageError       one image file that cannot be decoded
│   ├── TooManyBadImagesError      more unreadable images than --max-bad allows
│   └── SplitError                 a split that cannot be made or that contradicts itself
├── ModelError
│   ├── UnknownModelError          no such name in the catalog or in timm
│   ├── ImageSizeError             an image size that the network cannot take
│   └── WeightsError               a weights file that is unsafe, broken or of another network
├── RunError
│   ├── RunExistsError             the run folder is already there
│   ├── RunNotFoundError           no run folder at this path
│   ├── NonFiniteAnswerError       a network that answers with NaN or infinity
│   ├── RunChangedError            recipe, classes or data differ from what the run was made with
│   └── StorageError               the disk is full or not writable; what was saved stays
├── InspectionError                a figure that cannot be drawn as asked
├── ExportError                    an artifact that cannot be made, read or run as asked
│   └── ParityError                what was made says other things than the run
└── TrainingError
    ├── NonFiniteLossError         the loss became infinite or not a number
    └── OutOfMemoryError           the batch does not fit; the text names one that should
```

Anything else that escapes is a bug of ours (exit code 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FieldmarkError(Exception):
    """Base of every error caused by input; its text is shown to the user as it is."""


class RecipeError(FieldmarkError):
    """A recipe key or value that cannot be used."""


class DataError(FieldmarkError):
    """The user's data cannot be used as given."""


class TableError(DataError):
    """A table, folder or dataset that cannot be read as labelled images."""


class UnsafePathError(DataError):
    """An image path that leaves the image root."""


class UnreadableImageError(DataError):
    """One image that cannot be decoded."""


class TooManyBadImagesError(DataError):
    """More unreadable images than allowed."""


class SplitError(DataError):
    """A split that cannot be made, or that contradicts itself."""


class ModelError(FieldmarkError):
    """A network that cannot be built as asked."""


class UnknownModelError(ModelError):
    """No such model name."""


class ImageSizeError(ModelError):
    """An image size that the network cannot take."""


class WeightsError(ModelError):
    """A weights file that is unsafe, broken or made for another network."""


class RunError(FieldmarkError):
    """A run folder that cannot be used as asked."""


class NonFiniteAnswerError(RunError):
    """A network that answers with NaN or infinity."""


class RunExistsError(RunError):
    """The run folder is already there."""


class RunNotFoundError(RunError):
    """There is no run at this path."""


class RunChangedError(RunError):
    """Recipe, classes or data differ from what the run was made with."""


class StorageError(RunError):
    """Writing failed: disk full or not writable."""


class InspectionError(FieldmarkError):
    """A figure that cannot be drawn as asked."""


class ExportError(FieldmarkError):
    """An artifact that cannot be made, read or run as asked."""


class ParityError(ExportError):
    """What was made says other things than the run it was made of."""


class TrainingError(FieldmarkError):
    """Training cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss became infinite or not a number."""


class OutOfMemoryError(TrainingError):
    """The batch does not fit into memory."""


def nearest(name: str, choices: Iterable[str], count: int = 1) -> list[str]:
    """Return the choices most like `name`, best first; empty when none is close."""
    return get_close_matches(name, list(choices), n=count, cutoff=0.6)


def hint(name: str, choices: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the choice nearest to `name`, or an empty string."""
    close = nearest(name, choices)
    return f" Did you mean '{close[0]}'?" if close else ""
