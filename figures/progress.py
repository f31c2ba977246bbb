"""What a running study tells the person who waits: one live line in a terminal, a line per epoch else.

Turns the events of ``empirical.study`` into text on the console that it is given (stderr).
"""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from empirical import study
from empirical.protocol import TrainSpec
from figures.tables import duration


class StudyProgress:
    """A context manager whose ``on_event`` is handed to ``run_study``."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console, self.quiet = console, quiet
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[news]}"),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self.task = self.bar.add_task("starting", total=None, news="")

    def __enter__(self) -> StudyProgress:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def on_event(self, event: study.Event) -> None:
        """Show one event; warnings are shown even when quiet."""
        match event:
            case study.RecordDamaged():
                where = f", set aside in {event.moved_to}" if event.moved_to else ""
                self._say(f"warning: damaged record {event.cell}: {event.reason}{where}", always=True)
            case study.StudyPlanned() if event.finished:
                self._say(f"{event.finished} of {event.cells} cells are finished already")
            case study.CellStarted():
                resumed = f", going on after epoch {event.epoch}" if event.epoch else ""
                self._say(f"cell {event.index}/{event.total}: {cell_name(event.spec)}{resumed}")
            case study.StepDone():
                self._step(event)
            case study.EpochDone():
                self._epoch(event)
            case study.CellFinished() if event.diverged:
                self._say(f"{cell_name(event.spec)} diverged: recorded as a result", always=True)
            case study.CellWaiting():
                self._say(f"waiting for another process that trains {cell_name(event.spec)}")

    def _step(self, event: study.StepDone) -> None:
        left = "" if event.seconds_left is None else f" · {duration(event.seconds_left)} left"
        self.bar.update(
            self.task,
            description=f"cell {event.index}/{event.total} epoch {event.epoch}/{event.spec.epochs}",
            completed=event.images,
            total=event.images_per_epoch,
            news=f"loss {event.loss:.3f} · {event.images_per_second:,.0f} images/s{left}",
        )

    def _epoch(self, event: study.EpochDone) -> None:
        row = event.row
        self._say(
            f"  epoch {row['epoch']:>2}/{event.spec.epochs}  loss {row['train_loss']:.4f}  "
            f"accuracy {row['test_accuracy']:.2f} %  {row['seconds']:.1f} s"
        )

    def _say(self, text: str, *, always: bool = False) -> None:
        if always or not self.quiet:
            self.console.print(text, soft_wrap=True, markup=False)


def cell_name(spec: TrainSpec) -> str:
    """A cell in words.

    >>> cell_name(TrainSpec(initializer="he", activation="relu", depth=5, seed=3))
    'he · relu · 5 layers · seed 3'
    """
    return f"{spec.initializer} · {spec.activation} · {spec.depth} layers · seed {spec.seed}"
