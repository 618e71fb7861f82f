"""From updates and measurements, which stay on the device, to rows of numbers: one wait for many updates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch

from lrlab.probes import Probe
from lrlab.training.loop import Update

Row = dict[str, float | None]
"""Column -> value at one step; None where a quantity was not measured at that step."""


class DivergedError(RuntimeError):
    """The loss is no longer a finite number."""

    exit_code: ClassVar[int] = 4

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"diverged: the loss of update {step} is {loss}. Lower optimizer.lr, or look at the data.")
        self.step = step


class Recorder:
    """Keeps updates until they are asked for as rows.

    Columns: step, epoch, train/loss, lr/<group>, and those of the probes.

    Args:
        group_names: names of the optimizer's parameter groups, in its order.
        probes: whose measurements go into the rows.
    """

    def __init__(self, group_names: Sequence[str], probes: Sequence[Probe]) -> None:
        self.columns = [
            "step",
            "epoch",
            "train/loss",
            *(f"lr/{name}" for name in group_names),
            *(column for probe in probes for column in probe.columns),
        ]
        self._probes = probes
        self._updates: list[Update] = []

    def add(self, update: Update) -> None:
        """Keep one update."""
        self._updates.append(update)

    def take_rows(self) -> list[Row]:
        """Return one row for each update since the last call, oldest first, and forget them.

        A row whose loss is not finite is the last one: what comes after it means nothing (see `divergence`).
        """
        updates, self._updates = self._updates, []
        if not updates:
            return []
        losses = torch.stack([update.loss for update in updates]).tolist()  # a sync, with one for each probe
        measured = [probe.take_rows() for probe in self._probes]
        rows: list[Row] = []
        for update, loss in zip(updates, losses, strict=True):
            row: Row = dict.fromkeys(self.columns)
            row.update(zip(self.columns, [update.step, update.epoch, loss, *map(float, update.lrs)], strict=False))
            for values in measured:
                row.update(values.get(update.step, {}))
            rows.append(row)
            if not math.isfinite(loss):
                break
        return rows


def step_of(row: Row) -> int:
    """Return the update that a row is of."""
    step = row["step"]
    assert step is not None, "every row has its step"
    return int(step)


def divergence(rows: Sequence[Row]) -> DivergedError | None:
    """Return the error to raise if the last row's loss is nan or infinite, else None."""
    loss = rows[-1]["train/loss"] if rows else None
    return None if loss is None or math.isfinite(loss) else DivergedError(step_of(rows[-1]), loss)
