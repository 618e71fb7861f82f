"""How large the weights of each layer group are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lrlab.gradients import group_norms, group_sizes
from lrlab.probes.base import Probe, column_names


class WeightNormProbe(Probe):
    """L2 norm and root mean square of each group's weights, before the update.

    Columns, for a group with weights w of N numbers:
        weight_l2/<group>:   |w| = sqrt(sum w_i^2)
        weight_rms/<group>:  |w| / sqrt(N), which does not grow with the size of the group

    Behind a normalisation only the direction of weights counts, and their norm is a rate: the larger |w|, the less the
    same update turns them (van Laarhoven, 2017, arXiv:1706.05350).

    Args:
        groups: name -> parameters, as from `lrlab.models.layer_groups(model)`.
        every: measure at each `every`-th update.
    """

    def __init__(self, groups: Mapping[str, Sequence[nn.Parameter]], *, every: int = 1) -> None:
        super().__init__(column_names(groups, "weight_l2", "weight_rms"), every=every)
        self._groups = [list(parameters) for parameters in groups.values()]
        self._roots = group_sizes(self._groups).sqrt()

    @torch.no_grad()
    def _measure(self) -> Tensor:
        norms = group_norms(self._groups)
        if (self._roots.device, self._roots.dtype) != (norms.device, norms.dtype):
            # the model may move after this was made; first the type, since Apple's GPUs have no float64
            self._roots = group_sizes(self._groups).sqrt().to(norms.dtype).to(norms.device)
        return torch.cat([norms, norms / self._roots])
