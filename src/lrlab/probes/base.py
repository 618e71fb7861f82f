"""What every probe shares: when it measures, and how its values become numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lrlab.probes.buffer import RowBuffer

NUM_WITHOUT_AN_UPDATE = 100
"""Measurements after which an optimizer that has made no update is taken for the wrong one."""


def column_names(groups: Mapping[str, Any], *quantities: str) -> list[str]:
    """Return `<quantity>/<group>` of every quantity and group.

    Raises: TypeError for what has no groups, a model for instance; ValueError for a group of nothing.
    """
    if not isinstance(groups, Mapping):
        raise TypeError(
            f"groups must map names to parameters, as from lrlab.models.layer_groups, got {type(groups).__name__}."
        )
    empty = [name for name, group in groups.items() if len(group) == 0]
    if empty:
        raise ValueError(f"groups: each must have a parameter; these have none: {', '.join(map(str, empty))}.")
    return [f"{quantity}/{name}" for quantity in quantities for name in groups]


class Probe(ABC):
    """Reads one or more quantities of each layer group around one update, and changes nothing.

    Call `observe()` once for each update, between `backward()` and `optimizer.step()`: gradients are final there
    and the weights have not moved. Values stay on the device until `take()` or `take_rows()`.

    Args:
        columns: names of what one measurement holds, `<quantity>/<group>`.
        every: measure at each `every`-th update, >= 1: at updates every, 2 * every, ...
    """

    watches_forward: ClassVar[bool] = False
    """Whether it reads the forward pass by hooks: where those do something, torch.compile breaks a graph in pieces."""

    def __init__(self, columns: Sequence[str], *, every: int) -> None:
        if every < 1:
            raise ValueError(f"{type(self).__name__}: every must be >= 1, got {every}.")
        self.columns = tuple(columns)
        self.every = every
        self.num_updates = 0
        self._steps: list[int] = []  # updates that were measured and not taken yet
        self._buffer = RowBuffer()

    @property
    def num_updates(self) -> int:
        """Updates that were counted so far."""
        return self._num_updates

    @num_updates.setter
    def num_updates(self, value: int) -> None:
        self._num_updates = value
        # a flag, since torch.compile makes a graph for each value that a hook reads, and gives up after eight
        self.due = (value + 1) % self.every == 0
        """Whether the update under way is one that is measured."""

    def observe(self) -> None:
        """Count one update, and measure it where it is due; nothing waits for the device."""
        if self.due:
            values = self._measure()
            if values is not None:
                self._keep(self.num_updates + 1, values)
        self.num_updates += 1

    def forget(self) -> None:
        """Take back the last `observe()`, whose update was not made, since GradScaler left it out for instance."""
        self.num_updates -= 1
        if self._steps and self._steps[-1] > self.num_updates:
            self._steps.pop()

    def take(self) -> tuple[Tensor, Tensor]:
        """Return the measurements since the last call, and forget them.

        Returns: updates that were measured, (n,), int64, and what was measured at each, (n, len(columns)), float32 or
            float64, both on the CPU. The only wait for the device: one copy for all of them.
        """
        values = self._values().cpu()
        steps, self._steps = self._steps, []
        return torch.tensor(steps, dtype=torch.int64, device="cpu"), values

    def take_rows(self) -> dict[int, dict[str, float]]:
        """Return the measurements since the last call as {update: {column: value}}, and forget them."""
        steps, values = self.take()
        rows = zip(steps.tolist(), values.tolist(), strict=True)  # both are on the CPU
        return {step: dict(zip(self.columns, row, strict=True)) for step, row in rows}

    def detach(self) -> None:
        """Let go of the model: a probe that hangs on it takes itself off."""
        return

    def state_dict(self) -> dict[str, Any]:
        """Return what a probe must know to go on where it stopped, what was not taken yet included; no sync."""
        steps = torch.tensor(self._steps, dtype=torch.int64, device="cpu")
        return {"num_updates": self.num_updates, "steps": steps, "values": self._values()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.num_updates = state_dict["num_updates"]
        self._steps = state_dict["steps"].tolist()
        self._buffer = RowBuffer()
        for position, values in enumerate(state_dict["values"]):
            self._buffer.put(position, values)

    def _keep(self, step: int, values: Tensor) -> None:
        """Keep what was measured at an update, one value for each column."""
        if values.shape != (len(self.columns),):
            raise ValueError(
                f"{type(self).__name__}: a measurement must hold one value for each of its {len(self.columns)} "
                f"columns, got shape {tuple(values.shape)}. Correct its _measure()."
            )
        self._buffer.put(len(self._steps), values)
        self._steps.append(step)

    def _values(self) -> Tensor:
        return self._buffer.rows(len(self._steps)) if self._steps else torch.empty((0, len(self.columns)))

    @abstractmethod
    def _measure(self) -> Tensor | None:
        """Return one value for each column, (len(columns),), on the device; None if there is nothing to measure yet."""
