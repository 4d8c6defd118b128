"""What a run says while it works. Terminal, log, TensorBoard and pages consume these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class RunOpened:
    """The run folder is ready; `resumed_at` tells (epoch, batch) of the checkpoint, if any."""

    path: Path
    resumed_at: tuple[int, int] | None = None


@dataclass(frozen=True)
class Note:
    """A sentence for people: what was dropped, resized, chosen or cannot be trusted."""

    text: str


@dataclass(frozen=True)
class ImagesScanned:
    """Progress of reading every image once."""

    done: int
    total: int


@dataclass(frozen=True)
class DataReady:
    """The table is clean and split."""

    num_classes: int
    num_images: Mapping[str, int]
    num_left_out: int


@dataclass(frozen=True)
class TeacherAsked:
    """Progress of asking a teacher about every training image once."""

    done: int
    total: int


@dataclass(frozen=True)
class FeaturesStored:
    """Progress of running a frozen backbone once over the images, in views of them."""

    done: int
    total: int


@dataclass(frozen=True)
class ModelReady:
    """The network is built and its weights are loaded."""

    name: str
    parameters: int
    trainable_parameters: int
    device: str
    precision: str


@dataclass(frozen=True)
class StepDone:
    """One batch was learned from."""

    epoch: int
    num_epochs: int
    batch: int
    num_batches: int
    lr: float
    images_per_second: float
    seconds_left: float
    read_loss: Callable[[], float] = field(repr=False, compare=False)

    @property
    def loss(self) -> float:
        """The mean of the epoch so far. Reading it waits for a GPU, so do it now and then."""
        return self.read_loss()


@dataclass(frozen=True)
class EpochDone:
    """One epoch was trained and, where there is a val split, evaluated. Epochs count from 1."""

    epoch: int
    num_epochs: int
    train_loss: float
    val: Mapping[str, float]
    lr: float
    seconds: float
    images_per_second: float
    is_best: bool

    def as_line(self) -> dict[str, float | int | bool]:
        """The line of metrics.jsonl."""
        return {
            "epoch": self.epoch,
            "train_loss": self.train_loss,
            **{f"val_{name}": value for name, value in self.val.items()},
            "lr": self.lr,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 2),
            "is_best": self.is_best,
        }


@dataclass(frozen=True)
class Saved:
    """A checkpoint (`last`) or the selected weights (`best`) are on the disk."""

    what: str
    path: Path


@dataclass(frozen=True)
class Profiled:
    """Where the time went, once a watched run is over; both files are in its folder.

    phases: (name, seconds, share of all, times entered). trace_path: for chrome://tracing or
    Perfetto; None where the run was too short to trace.
    """

    seconds: float
    steps: int
    phases: tuple[tuple[str, float, float, int], ...]
    path: Path
    trace_path: Path | None


@dataclass(frozen=True)
class Finished:
    """The run is over."""

    path: Path
    epochs: int
    best_epoch: int
    metric: str
    value: float | None
    seconds: float
    images_per_second: float
    peak_memory_mb: float
    reason: str = "all epochs done"
    notes: tuple[str, ...] = field(default=())


Event = (
    RunOpened
    | Note
    | ImagesScanned
    | DataReady
    | TeacherAsked
    | FeaturesStored
    | ModelReady
    | StepDone
    | EpochDone
    | Saved
    | Profiled
    | Finished
)
Listener = Callable[[Event], None]
