"""Whether the gradients of two successive updates point the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lrlab.gradients import group_products
from lrlab.probes.base import Probe, column_names


class GradientCosineProbe(Probe):
    """Cosine of the angle between a gradient and that of the update before it.

    Columns, for the gradients g of this update and h of the one before, of two different batches:
        grad_cosine/<group>:  <g, h> / (|g| |h|), in [-1, 1]; nan where one of them is zero

    Near 0 the batches' noise outweighs what they have in common. Above, both still point downhill together. Below, the
    weights jump from one wall of a valley to the other: the rate is too high for its curvature (Xing et al., 2018,
    arXiv:1802.08770).

    A copy of the gradient is kept from the update before one that is measured, which takes as much memory as the
    weights; between these two updates it is part of the state that is saved.

    Args:
        groups: name -> parameters, as from `lrlab.models.layer_groups(model)`.
        every: measure at each `every`-th update; the first has none before it.
        products: what to measure with, for a loop that knows a faster way than `lrlab.gradients.group_products`; takes
            and returns the same.
    Raises: RuntimeError at `observe()` if no parameter has a gradient.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[nn.Parameter]],
        *,
        every: int = 1,
        products: Callable[[list[list[Tensor]], list[list[Tensor]]], Tensor] = group_products,
    ) -> None:
        super().__init__(column_names(groups, "grad_cosine"), every=every)
        self._groups = [list(parameters) for parameters in groups.values()]
        self._products = products
        self._last: list[list[Tensor]] | None = None  # gradients of the update before, where the next one is due
        self._room: list[list[Tensor]] | None = None  # for the next ones: to have new memory costs as much as a copy

    def observe(self) -> None:
        """Count one update, measure it where it is due, and remember its gradient where the next one is."""
        super().observe()
        if self.due:
            self._last, self._room = self._copied(), None

    def forget(self) -> None:
        """Take back the last `observe()`; its gradient is none to hold the next one against."""
        super().forget()
        self._last = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a probe must know to go on where it stopped, with the gradient that it remembers; no sync."""
        last = self._last and [[old.clone() for old in group] for group in self._last]
        return {**super().state_dict(), "last": last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        super().load_state_dict(state_dict)
        last = state_dict["last"]
        if last is not None:
            pairs = zip(last, self._groups, strict=True)
            last = [
                [old.to(p.device, copy=True) for old, p in zip(group, parameters, strict=True)]
                for group, parameters in pairs
            ]
        self._last = last

    def _measure(self) -> Tensor | None:
        last, self._last = self._last, None
        if last is None:
            return None
        products, squares, squares_of_last = self._products(self._gradients(), last)
        self._room = last
        cosines: Tensor = products / (squares.sqrt() * squares_of_last.sqrt())
        return cosines

    def _copied(self) -> list[list[Tensor]]:
        gradients = self._gradients()
        if self._room is None:
            return [[gradient.clone() for gradient in group] for group in gradients]
        for room, group in zip(self._room, gradients, strict=True):
            torch._foreach_copy_(room, group)
        return self._room

    def _gradients(self) -> list[list[Tensor]]:
        """A parameter without a gradient counts as zeros, as the optimizer leaves it where it is."""
        if all(parameter.grad is None for group in self._groups for parameter in group):
            raise RuntimeError(
                "GradientCosineProbe: no gradients to read. Call probe.observe() after loss.backward() and before "
                "optimizer.step() and zero_grad()."
            )
        return [[torch.zeros_like(p) if p.grad is None else p.grad for p in group] for group in self._groups]
