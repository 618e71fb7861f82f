"""How large the gradient of each layer group's parameters is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lrlab.gradients import group_l2_norms, group_sizes
from lrlab.probes.base import Probe


class GradientProbe(Probe):
    """L2 norm and root mean square of the gradient of each group's parameters.

    Columns, for a group with gradient g of N numbers:
        grad_l2/<group>:   |g| = sqrt(sum g_i^2)
        grad_rms/<group>:  |g| / sqrt(N), which does not grow with the size of the group

    A parameter without a gradient (None: the loss does not depend on it) counts as a gradient of zeros.

    Args:
        groups: name -> parameters, as from `lrlab.models.layer_groups(model)`.
        every: measure at each `every`-th update.
    Raises: RuntimeError at `observe()` if no parameter has a gradient.
    """

    def __init__(self, groups: Mapping[str, Sequence[nn.Parameter]], *, every: int = 1) -> None:
        names = list(groups)
        super().__init__([f"grad_l2/{name}" for name in names] + [f"grad_rms/{name}" for name in names], every=every)
        self._groups = [list(parameters) for parameters in groups.values()]
        device = self._groups[0][0].device
        self._inverse_root_sizes = group_sizes(self._groups).rsqrt().to(device)

    def _measure(self) -> Tensor:
        gradients = [[p.grad for p in group if p.grad is not None] for group in self._groups]
        if not any(gradients):
            raise RuntimeError(
                "GradientProbe: no gradients to read. Call probe.observe() after loss.backward() and before "
                "optimizer.step() and zero_grad()."
            )
        norms = group_l2_norms(gradients)  # (G,)
        return torch.cat([norms, norms * self._inverse_root_sizes.to(norms.dtype)])  # (2 G,)
