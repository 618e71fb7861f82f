"""Looks at a run now and then, since a look waits for the device."""

from __future__ import annotations

import time
from dataclasses import dataclass

from lrlab.experiments.events import Evaluated, Event

SECONDS_BETWEEN_LOOKS = 0.25


@dataclass(frozen=True)
class Look:
    """How a run stands."""

    step: int
    loss: float
    lr: float
    """The highest of its layer groups."""
    images_per_second: float | None
    """Since the last look, evaluations left out; None at the first."""


class Pace:
    """Takes note of the events of one run."""

    def __init__(self, *, batch_size: int) -> None:
        self._batch_size = batch_size
        self._looked: float | None = None
        self._step = 0

    def look(self, event: Event) -> Look | None:
        """Return how the run stands if this is its first update, or if the last look is long enough ago."""
        now = time.monotonic()
        if isinstance(event, Evaluated):
            self._looked, self._step = now, event.step  # an evaluation is no training time
            return None
        speed = None
        if self._looked is not None:
            if now - self._looked < SECONDS_BETWEEN_LOOKS:
                return None
            speed = (event.step - self._step) * self._batch_size / (now - self._looked)
        self._looked, self._step = now, event.step
        # waits for the device, a few times a second
        return Look(event.step, float(event.loss), max(map(float, event.lrs)), speed)
