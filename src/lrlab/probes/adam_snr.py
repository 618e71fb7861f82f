"""How much of each layer group's gradient is the same from update to update, by Adam's own moments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrlab.moments import check_moments, moment_sums
from lrlab.probes.base import NUM_WITHOUT_AN_UPDATE, Probe, column_names


class AdamSnrProbe(Probe):
    """Square of Adam's first moment over its second, for each group.

    Columns, with the moments m and v as the optimizer holds them before the update, at its t-th:
        adam_snr/<group>:  sum (m_i / (1 - beta1^t))^2 / sum (v_i / (1 - beta2^t))

    1 where every batch has the same gradient. Where batches have nothing in common it is (1 - beta1) / (1 + beta1),
    0.053 for beta1 = 0.9, once t is large; in the first updates it is larger, 1 after the first. It is the quotient of
    two sums and not the mean of quotients, which a few parameters with next to no gradient would decide. `SnrLR` says
    what misleads it.

    Args:
        groups: name -> parameters of the optimizer, as from `lrlab.models.layer_groups(model)`.
        optimizer: Adam, AdamW, NAdam, RAdam or one that keeps its moments likewise: "betas" in each group, beta1 in
            (0, 1); "step", "exp_avg" and "exp_avg_sq" of each parameter.
        every: measure at each `every`-th update; before the first there are no moments.
    Raises: ValueError for an optimizer without such moments; RuntimeError at `observe()` for one that makes no update.
    Source: moments as in Kingma and Ba, 2015, arXiv:1412.6980.
    """

    def __init__(self, groups: Mapping[str, Sequence[nn.Parameter]], optimizer: Optimizer, *, every: int = 1) -> None:
        check_moments(optimizer, reader="AdamSnrProbe")
        super().__init__(column_names(groups, "adam_snr"), every=every)
        self._optimizer = optimizer
        self._num_empty = 0
        self._groups = [list(parameters) for parameters in groups.values()]

    @torch.no_grad()
    def _measure(self) -> Tensor | None:
        check_moments(self._optimizer, reader="AdamSnrProbe")
        state = self._optimizer.state
        betas = {p: group["betas"] for group in self._optimizer.param_groups for p in group["params"]}
        # one that is frozen by now keeps moments of gradients that are long gone
        held = [[p for p in group if p.requires_grad and state.get(p)] for group in self._groups]
        moved = [parameter for group in held for parameter in group]
        if not moved:
            known = {one for group in self._optimizer.param_groups for one in group["params"]}
            self._num_empty += not state or not any(one in known for group in self._groups for one in group)
            if self._num_empty >= NUM_WITHOUT_AN_UPDATE:
                raise RuntimeError(
                    f"AdamSnrProbe: the optimizer had no moments of these groups at {self._num_empty} measurements. "
                    "Give it the one that has their parameters, and whose step() is called."
                )
            return None
        # each parameter's sums are divided by its bias, since to divide a moment means to write as much memory
        firsts, seconds = moment_sums([state[parameter] for parameter in moved])
        biases = [[_one_minus_power(float(beta), state[p]["step"]) for beta in betas[p]] for p in moved]
        first_bias, second_bias = (
            torch.stack(of_beta).to(firsts, non_blocking=True) for of_beta in zip(*biases, strict=True)
        )
        numbers = [len(group) for group in held]
        squares, sums = (firsts / first_bias.square()).split(numbers), (seconds / second_bias).split(numbers)
        return torch.stack([one.sum() / other.sum() for one, other in zip(squares, sums, strict=True)])


def _one_minus_power(beta: float, step: Tensor | float) -> Tensor:
    """1 - beta^step, without the four digits that float32 loses to the subtraction where beta^step is near 1."""
    step = torch.as_tensor(step, dtype=torch.float32)
    return -torch.expm1(step * math.log(beta)) if beta else torch.ones_like(step)  # beta2 may be 0
