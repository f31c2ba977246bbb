"""The events of a running study in words, for whoever waits for it.

Nothing here prints: the command line decides where the words go.
"""

from __future__ import annotations

from empirical.protocol import TrainSpec
from empirical.study import events
from figures.tables import duration


def announcement(event: events.Event) -> str | None:
    """The line that an event deserves of its own, or None."""
    match event:
        case events.StudyPlanned() if event.finished:
            return f"{event.finished} of {event.cells} cells are finished already"
        case events.CellStarted():
            resumed = f", going on after epoch {event.epoch}" if event.epoch else ""
            return f"cell {event.index}/{event.total}: {cell_name(event.spec)}{resumed}"
        case events.EpochDone():
            row = event.row
            speed = event.images_per_second
            which = f"cell {event.index}/{event.total} " if event.at_once > 1 else ""
            return (
                f"  {which}epoch {row['epoch']:>2}/{event.spec.epochs}  loss {row['train_loss']:.4f}  "
                f"{event.spec.data.score} {row['test_accuracy']:.2f} %"
                + (
                    f"  {_speed(event.spec, speed)}"
                    if speed is not None
                    else f"  {row['seconds']:.1f} s"
                )
                + (f"  {duration(event.seconds_left)} left" if event.seconds_left else "")
            )
        case events.CellWaiting():
            return f"waiting for another process that trains {cell_name(event.spec)}"
        case events.WorkersAwaited():
            return f"waiting for workers at {event.place}"
    return warning(event)


def warning(event: events.Event) -> str | None:
    """The line of an event that nobody should miss, even with --quiet; else None."""
    match event:
        case events.RecordDamaged():
            where = f", set aside in {event.moved_to}" if event.moved_to else ""
            return f"warning: damaged record {event.cell}: {event.reason}{where}"
        case events.CellFinished() if event.diverged and not event.skipped:
            return f"warning: {cell_name(event.spec)} diverged: recorded as a result"
        case events.WorkerLost():
            return (
                f"warning: {event.worker} is gone ({event.reason}): another goes on with "
                f"{cell_name(event.spec)}"
            )
    return None


def position(event: events.StepDone) -> str:
    """Where the study is: cell and epoch."""
    return f"cell {event.index}/{event.total} epoch {event.epoch}/{event.spec.epochs}"


def pace(event: events.StepDone) -> str:
    """How it goes: loss, the last epoch's score, images per second, time left for all cells."""
    left = "" if event.seconds_left is None else f" · {duration(event.seconds_left)} left"
    name, value = event.spec.data.score, event.test_accuracy
    score = "" if value is None else f" · {name} {value:.1f} %"
    return f"loss {event.loss:.3f}{score} · {_speed(event.spec, event.images_per_second)}{left}"


def _speed(spec: TrainSpec, images_per_second: float) -> str:
    return f"{images_per_second:,.0f} {'images' if spec.data.task == 'images' else 'examples'}/s"


def cell_name(spec: TrainSpec) -> str:
    """A cell in words.

    >>> cell_name(TrainSpec(initializer="he", activation="relu", depth=5, seed=3))
    'he · relu · 5 layers · seed 3'
    """
    return f"{spec.initializer} · {spec.activation} · {spec.depth} layers · seed {spec.seed}"
