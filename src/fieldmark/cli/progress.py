"""A training run on the terminal: a bar where there is one, a line per epoch elsewhere."""

from __future__ import annotations

import time
from functools import singledispatchmethod
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from fieldmark.cli.output import Output, stderr
from fieldmark.training.events import (
    DataReady,
    EpochDone,
    Event,
    FeaturesStored,
    Finished,
    ImagesScanned,
    ModelReady,
    Note,
    Profiled,
    RunOpened,
    Saved,
    StepDone,
    TeacherAsked,
)

REDRAW_SECONDS = 0.1


class TrainingView:
    """Listens to a run, shows it, and keeps its last event for the result."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.console = stderr()
        self.finished: Finished | None = None
        self.profiled: Profiled | None = None
        self.shown_at = 0.0
        self.last_val = ""
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[state]}"),
            console=self.console,
            transient=True,
            refresh_per_second=4,
            disable=output.quiet or not self.console.is_terminal,
        )
        # Seconds pass until there are images to count.
        self.task = self.bar.add_task("starting", total=None, state="")

    def __enter__(self) -> TrainingView:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        self._show(event)

    @singledispatchmethod
    def _show(self, event: Event) -> None:
        """Show one event."""

    @_show.register
    def _(self, event: RunOpened) -> None:
        self._say(f"run      {event.path}")
        if event.resumed_at is not None:
            epoch, batch = event.resumed_at
            self._say(f"resumed  after epoch {epoch}" + (f", batch {batch}" if batch else ""))

    @_show.register
    def _(self, event: Note) -> None:
        for line in event.text.splitlines():
            self._say(f"note     {line}")

    @_show.register
    def _(self, event: ImagesScanned) -> None:
        state = f"{event.done}/{event.total} images"
        self._move("reading images", event.done, event.total, state)

    @_show.register
    def _(self, event: TeacherAsked) -> None:
        self._move("asking teacher", event.done, event.total, f"{event.done}/{event.total} images")

    @_show.register
    def _(self, event: FeaturesStored) -> None:
        self._move("storing features", event.done, event.total, f"{event.done}/{event.total} views")

    @_show.register
    def _(self, event: DataReady) -> None:
        counts = ", ".join(f"{count} {name}" for name, count in event.num_images.items())
        left_out = f"; {event.num_left_out} left out (left_out.csv)" if event.num_left_out else ""
        self._say(f"data     {counts} images, {event.num_classes} classes{left_out}")

    @_show.register
    def _(self, event: ModelReady) -> None:
        frozen = event.trainable_parameters != event.parameters
        trained = f", {event.trainable_parameters:,} trained" if frozen else ""
        self._say(
            f"model    {event.name}, {event.parameters:,} parameters{trained}; "
            f"{event.device}, {event.precision}"
        )

    @_show.register
    def _(self, event: StepDone) -> None:
        # Reading the loss waits for a GPU, and nobody reads faster than this.
        is_last = event.batch == event.num_batches
        if self.bar.disable or (time.monotonic() - self.shown_at < REDRAW_SECONDS and not is_last):
            return
        self.shown_at = time.monotonic()
        done = (event.epoch - 1) * event.num_batches + event.batch
        state = (
            f"loss {event.loss:.3f}{self.last_val}  {event.images_per_second:.0f} images/s  "
            f"{_minutes(event.seconds_left)} left"
        )
        description = f"epoch {event.epoch}/{event.num_epochs}"
        self._move(description, done, event.num_epochs * event.num_batches, state)

    @_show.register
    def _(self, event: EpochDone) -> None:
        val = "  ".join(
            f"{name} {event.val[name]:.3f}"
            for name in ("accuracy", "macro_f1", "nll")
            if name in event.val
        )
        if "accuracy" in event.val:
            self.last_val = f"  val accuracy {event.val['accuracy']:.3f}"
        best = "  *" if event.is_best and event.val else ""
        width = len(str(event.num_epochs))
        self._say(
            f"epoch    {event.epoch:>{width}}/{event.num_epochs}  loss {event.train_loss:.3f}  "
            f"{'val ' + val if val else ''}  {event.images_per_second:.0f} images/s{best}"
        )

    @_show.register
    def _(self, event: Saved) -> None:
        pass

    @_show.register
    def _(self, event: Profiled) -> None:
        self.profiled = event

    @_show.register
    def _(self, event: Finished) -> None:
        self.finished = event

    def _say(self, text: str) -> None:
        if not self.output.quiet:
            self.console.print(Text(text), highlight=False, soft_wrap=True)

    def _move(self, description: str, done: int, total: int, state: str) -> None:
        self.bar.update(
            self.task,
            description=description,
            completed=done,
            total=total,
            state=state,
        )


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
