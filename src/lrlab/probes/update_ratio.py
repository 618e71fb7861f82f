"""How far an update moves each layer group, relative to where it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrlab.gradients import group_changes
from lrlab.probes.base import NUM_WITHOUT_AN_UPDATE, Probe, column_names


class UpdateRatioProbe(Probe):
    """Length of the update that was made over the length of the weights that it was made to.

    Columns, for weights w before and w' after the optimizer's step:
        update_ratio/<group>:  |w' - w| / |w|; nan or inf for a group whose weights are all zero

    All that moves the weights counts: rate, moments, weight decay, clipping. About 1e-3 is a usual value for weights
    that are learnt from scratch; it is a rule of thumb without a theory (A. Karpathy, CS231n, "Ratio of
    weights:updates").

    `observe()` copies the weights of the groups where the update is due, which takes as much memory as they do, and a
    hook behind `optimizer.step()` reads them again. A step that is not called (GradScaler leaves it out where a
    gradient is infinite) has no row. A fused optimizer's is called all the same, and finds out on the device that it
    must change nothing: that row is nan, since to leave it out would mean to wait.

    Args:
        groups: name -> parameters of the optimizer, as from `lrlab.models.layer_groups(model)`.
        optimizer: that moves them.
        every: measure at each `every`-th update.
        changes: what to measure with, for a loop that knows a faster way than `lrlab.gradients.group_changes`; takes
            and returns the same.
    Raises: RuntimeError at `observe()` if the optimizer has made none of the first 100 updates that were to be
        measured: it is another one's step that moves the weights.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[nn.Parameter]],
        optimizer: Optimizer,
        *,
        every: int = 1,
        changes: Callable[[list[list[Tensor]], list[list[Tensor]]], Tensor] = group_changes,
    ) -> None:
        super().__init__(column_names(groups, "update_ratio"), every=every)
        self._groups = [list(parameters) for parameters in groups.values()]
        self._changes = changes
        self._num_unmade, self._ever = 0, False  # measurements without an update, before there was one
        self._before: list[list[Tensor]] | None = None  # of the update under way, where it is measured
        self._room: list[list[Tensor]] | None = None
        # that which accelerator.prepare made of an optimizer has no hooks, but the one it was made of
        self._optimizer: Optimizer = getattr(optimizer, "optimizer", optimizer)
        self._handle = self._optimizer.register_step_post_hook(self._after_step)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._handle = self._optimizer.register_step_post_hook(self._after_step)  # a copied one has no hooks

    def detach(self) -> None:
        """Take the hook off the optimizer."""
        self._handle.remove()

    def observe(self) -> None:
        """Count one update, and copy the weights where it is due."""
        self._num_unmade += self._before is not None
        if self._num_unmade >= NUM_WITHOUT_AN_UPDATE and not self._ever:
            raise RuntimeError(
                f"UpdateRatioProbe: {self._num_unmade} updates were to be measured, and the optimizer made none. Give "
                "it the optimizer whose step() is called, and call observe() once for each update."
            )
        self._before = None  # of an update that was not made
        super().observe()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self._before = None

    @torch.no_grad()
    def _measure(self) -> None:
        if self._room is None:  # kept: to have new memory costs as much as a copy
            self._room = [[torch.empty_like(parameter) for parameter in group] for group in self._groups]
        for room, group in zip(self._room, self._groups, strict=True):
            torch._foreach_copy_(room, list(group))
        self._before = self._room

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        before, self._before = self._before, None
        self._ever = True
        if before is None:
            return
        after = [[parameter.detach() for parameter in group] for group in self._groups]
        changes, squares = self._changes(before, after)
        ratios = changes.sqrt() / squares.sqrt()
        found_inf = getattr(optimizer, "found_inf", None)  # GradScaler lends it to a fused optimizer for the step
        if found_inf is not None:
            ratios = torch.where(found_inf.to(ratios.device, non_blocking=True) > 0, float("nan"), ratios)
        self._keep(self.num_updates, ratios)
