"""One view of many cells that are trained at once.

A display has one bar.  It follows the first of the running cells in the grid's order; its speed is that
of all of them together, and the time left is that of the whole study:

    seconds left = max(work left / speed of all,  work left of one cell / its own speed)

with work as ``costs.work`` counts it, since no number of workers makes a single cell shorter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from empirical.protocol import TrainSpec
from empirical.study import events
from empirical.study.costs import work, work_per_image


class Overview:
    """Passes the events of many runners on to ``on_event`` as those of one study."""

    def __init__(self, numbered: list[tuple[int, TrainSpec]], on_event: events.OnEvent) -> None:
        self.total = len(numbered)
        self.on_event = on_event
        self.open = dict(numbered)
        self.work_left = sum(work(cell) for _, cell in numbered)
        self.running: dict[int, events.StepDone | None] = {}  # number of the cell -> its last report
        self.at_once = 0  # as many as there have been
        self.waited_for: int | None = None

    def tell(self, event: events.Event) -> None:
        """Take note of ``event`` and pass on what a display needs of it."""
        if isinstance(
            event, events.CellStarted | events.StepDone | events.EpochDone | events.CellFinished
        ):
            if event.index not in self.open:
                return  # late news of a cell that is finished
        match event:
            case events.CellStarted():
                self.running[event.index] = None
                self.at_once = max(self.at_once, len(self.running))
            case events.StepDone():
                self.running[event.index] = event
                if event.index != min(self.running):
                    return
                speed = sum(step.images_per_second for step in self.running.values() if step)
                event = replace(event, images_per_second=speed, seconds_left=self.seconds_left())
            case events.EpochDone():
                event = replace(event, seconds_left=self.seconds_left(), at_once=self.at_once)
            case events.CellFinished():
                self.running.pop(event.index, None)
                self.work_left -= work(self.open.pop(event.index))
            case events.CellWaiting():
                if event.index == self.waited_for:
                    return
                self.waited_for = event.index
        self.on_event(event)

    def drop(self, numbers: Iterable[int]) -> None:
        """These cells are not being trained any more, nor finished."""
        for number in numbers:
            self.running.pop(number, None)

    def seconds_left(self) -> float | None:
        """An estimate for all cells that are left; None until there is a speed to go by."""
        steps = [step for step in self.running.values() if step]
        if not steps or any(step.images_per_second <= 0 for step in steps):
            return None
        left = self.work_left * steps[0].images_per_epoch
        longest = speed = 0.0
        for step in steps:
            cell, images = step.spec, step.images_per_epoch
            done = (step.epoch - 1 + step.images / images) / cell.epochs
            pace = step.images_per_second * work_per_image(cell)
            left -= work(cell) * images * done
            longest = max(longest, work(cell) * images * (1 - done) / pace)
            speed += pace
        speed *= len(self.running) / len(steps)  # a cell that has just begun will be as fast
        return max(left / speed, longest)
