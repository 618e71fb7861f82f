"""From updates and measurements, which stay on the device, to columns of numbers: one wait for many updates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lrlab.probes import Probe
from lrlab.probes.buffer import RowBuffer
from lrlab.training.divergence import DivergedError
from lrlab.training.loop import Update

Array = npt.NDArray[Any]

Rows = Mapping[str, Array]
"""Column -> its value at each of n updates, (n,), oldest first; masked (`numpy.ma`) where it was not measured.

A nan that was measured is a value."""


class Recorder:
    """Keeps updates until they are asked for as rows.

    Columns: step and epoch, int64; train/loss and those of the probes, float32, or float64 where they were measured so;
    lr/<group>, float64.

    Args:
        group_names: names of the optimizer's parameter groups, in its order.
        probes: whose measurements go into the rows.
    """

    def __init__(self, group_names: Sequence[str], probes: Sequence[Probe]) -> None:
        self._lr_columns = [f"lr/{name}" for name in group_names]
        self._probes = probes
        self._updates: list[tuple[int, int, tuple[float | Tensor, ...]]] = []  # step, epoch, rates
        self._losses = RowBuffer()

    def add(self, update: Update) -> None:
        """Keep one update; nothing waits for the device."""
        self._losses.put(len(self._updates), update.loss)
        self._updates.append((update.step, update.epoch, update.lrs))

    def take_rows(self) -> Rows:
        """Return one row for each update since the last call, oldest first, and forget them.

        A row whose loss is not finite is the last one: what comes after it means nothing (see `divergence`).
        """
        num_rows = len(self._updates)
        losses = self._losses.rows(num_rows).cpu().numpy() if num_rows else np.empty(0, np.float32)  # a sync
        measured = [probe.take() for probe in self._probes]  # and one for each probe
        updates, self._updates = self._updates, []
        steps, epochs, lrs = zip(*updates, strict=True) if updates else ((), (), ())
        rows = {"step": np.array(steps, np.int64), "epoch": np.array(epochs, np.int64), "train/loss": losses}
        rows |= zip(self._lr_columns, _numbers(lrs, len(self._lr_columns)), strict=True)
        for probe, (probed, values) in zip(self._probes, measured, strict=True):
            rows |= zip(probe.columns, _at(rows["step"], probed.numpy(), values.numpy()), strict=True)
        infinite = np.flatnonzero(~np.isfinite(losses))
        return {name: values[: infinite[0] + 1] for name, values in rows.items()} if infinite.size else rows


def divergence(rows: Rows) -> DivergedError | None:
    """Return the error to raise if the last row's loss is nan or infinite, else None."""
    loss = float(rows["train/loss"][-1]) if len(rows["train/loss"]) else 0.0
    return None if math.isfinite(loss) else DivergedError(int(rows["step"][-1]), loss=loss)


def _numbers(lrs: Sequence[tuple[float | Tensor, ...]], num_groups: int) -> Array:
    """Return the rates of n updates as numbers, (num_groups, n)."""
    rates = [lr for row in lrs for lr in row]
    on_device = [lr for lr in rates if isinstance(lr, Tensor)]
    if on_device:
        numbers = iter(torch.stack(on_device).tolist())  # a sync, where rates are tensors
        rates = [next(numbers) if isinstance(lr, Tensor) else lr for lr in rates]
    return np.ascontiguousarray(np.array(rates, np.float64).reshape(len(lrs), num_groups).T)


def _at(steps: Array, measured: Array, values: Array) -> Array:
    """Return what was measured, (m, C), at each of the steps, (C, n), masked where nothing was."""
    if np.array_equal(steps, measured):
        return np.ascontiguousarray(values.T)
    _, rows, found = np.intersect1d(steps, measured, assume_unique=True, return_indices=True)
    columns = np.ma.array(np.zeros((values.shape[1], len(steps)), values.dtype), mask=True)
    columns[:, rows] = values[found].T
    return columns
