"""What every probe shares: when it measures, and how its values become numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Probe(ABC):
    """Reads one or more quantities of each layer group around one update, and changes nothing.

    Call `observe()` once for each update, between `backward()` and `optimizer.step()`: gradients are final there
    and the weights have not moved. Values stay on the device until `take_rows()`.

    Args:
        columns: names of what one measurement holds, `<quantity>/<group>`.
        every: measure at each `every`-th update, >= 1: at updates every, 2 * every, ...
    """

    def __init__(self, columns: Sequence[str], *, every: int) -> None:
        if every < 1:
            raise ValueError(f"{type(self).__name__}: every must be >= 1, got {every}.")
        self.columns = tuple(columns)
        self.every = every
        self.num_updates = 0
        self._taken: dict[int, Tensor] = {}

    @property
    def due(self) -> bool:
        """Whether the update under way is one that is measured."""
        return (self.num_updates + 1) % self.every == 0

    def observe(self) -> None:
        """Count one update, and measure it where it is due."""
        if self.due:
            self._taken[self.num_updates + 1] = self._measure()
        self.num_updates += 1

    def take_rows(self) -> dict[int, dict[str, float]]:
        """Return the measurements since the last call as {update: {column: value}}, and forget them."""
        taken, self._taken = self._taken, {}
        if not taken:
            return {}
        values = torch.stack(list(taken.values())).tolist()  # the only sync: one copy for all of them
        return {step: dict(zip(self.columns, row, strict=True)) for step, row in zip(taken, values, strict=True)}

    def detach(self) -> None:
        """Let go of the model: a probe that hangs on it takes itself off."""
        return

    def state_dict(self) -> dict[str, Any]:
        """Return what a probe must know to go on where it stopped."""
        return {"num_updates": self.num_updates, "taken": dict(self._taken)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.num_updates = state_dict["num_updates"]
        self._taken = dict(state_dict["taken"])

    @abstractmethod
    def _measure(self) -> Tensor:
        """Return one value for each column, (len(columns),), on the device."""
