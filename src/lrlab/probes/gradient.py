"""How large the gradient of each layer group's parameters is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lrlab.gradients import group_sizes, group_sums
from lrlab.probes.base import Probe, column_names


class GradientProbe(Probe):
    """Four sizes of the gradient of each group's parameters.

    Columns, for a group with gradient g of N numbers:
        grad_l2/<group>:   |g| = sqrt(sum g_i^2)
        grad_rms/<group>:  |g| / sqrt(N), which does not grow with the size of the group
        grad_mean/<group>: sum |g_i| / N; below the RMS, and the further the more the gradient is in few numbers
        grad_max/<group>:  max |g_i|

    A parameter without a gradient (None: the loss does not depend on it) counts as a gradient of zeros.

    Args:
        groups: name -> parameters, as from `lrlab.models.layer_groups(model)`.
        every: measure at each `every`-th update.
        sums: what to measure with, for a loop that knows a faster way than reading every parameter's gradient;
            returns sum g^2, sum |g| and max |g| of each group, (3, len(groups)), on the device.
    Raises: RuntimeError at `observe()` if no parameter has a gradient.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[nn.Parameter]],
        *,
        every: int = 1,
        sums: Callable[[], Tensor] | None = None,
    ) -> None:
        super().__init__(column_names(groups, "grad_l2", "grad_rms", "grad_mean", "grad_max"), every=every)
        self._groups = [list(parameters) for parameters in groups.values()]
        self._sums = sums or self._sums_of_parameters
        self._inverse_sizes = group_sizes(self._groups).reciprocal()

    def _measure(self) -> Tensor:
        squares, magnitudes, largest = self._sums()  # (G,) each
        if (self._inverse_sizes.device, self._inverse_sizes.dtype) != (squares.device, squares.dtype):
            # the model may move after this was made; first the type, since Apple's GPUs have no float64
            self._inverse_sizes = group_sizes(self._groups).reciprocal().to(squares.dtype).to(squares.device)
        inverse_sizes = self._inverse_sizes
        return torch.cat([squares.sqrt(), (squares * inverse_sizes).sqrt(), magnitudes * inverse_sizes, largest])

    def _sums_of_parameters(self) -> Tensor:
        gradients = [[p.grad for p in group if p.grad is not None] for group in self._groups]
        if not any(gradients):
            raise RuntimeError(
                "GradientProbe: no gradients to read. Call probe.observe() after loss.backward() and before "
                "optimizer.step() and zero_grad()."
            )
        return group_sums(gradients)
