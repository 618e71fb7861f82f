"""Decay once the weights only wander: a test on whether their distance from zero still drifts."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from lrlab.schedulers.sampled import SampledRuleLR
from lrlab.schedulers.statistics import Estimate, batch_means_estimate


class StationarityLR(SampledRuleLR):
    """Decay when the optimizer has become stationary at its rate: the test of the SASA+ family.

    With x the weights and d the direction of an update, x' = x - lr d, the weights' squared norm stays the same on
    average only if the mean of

        D = <x, d> - lr |d|^2 / 2

    is zero: Yaida's condition, which SASA+ tests at each update. But D is (|x|^2 - |x'|^2) / (2 lr), so its mean over
    any stretch is the difference of two norms, and nothing but the norm is needed, now and then, from any optimizer:

        mean of D from update a to update b = (|x_a|^2 - |x_b|^2) / (2 lr (b - a))

    The norm is taken every `sample_every` updates, which gives one value of D for each such stretch; one in which a
    rate changed is left out. Of the stretches since the last decay the latest 1 / `leak_ratio` count. Once these are
    `min_samples`, it decays, every `check_every` updates, if their mean cannot be told from zero by a two-sided t-test
    at `level` with the standard error of batch means, nor that of their first half, nor of their second: a drift that
    passes through zero is no rest.

    Within `LayerwiseLR` lr is the rate without the multipliers, which belong to d: the D of each group counts by its
    multiplier. At rest the mean is zero all the same. A multiplier that changes leaves no stretch out.

    What misleads it: networks with batch normalisation and weight decay come to a steady norm after about
    1 / (lr * weight_decay) updates, whether or not the loss still falls; without weight decay the norm of weights
    before a normalisation grows for ever, and it never decays.

    Args:
        optimizer: any; SASA+ is derived for SGD with momentum.
        check_every: updates between two looks, >= 1.
        sample_every: updates in one stretch, >= 1.
        min_samples: stretches that must count before it decides, >= 20.
        leak_ratio: the latest 1 / leak_ratio of the stretches since the last decay count; >= 1.
        level: of the test, in (0, 1); a larger one decays later.
        factor: the rates are multiplied by it, in (0, 1).
        min_lr: floor of the rates, >= 0.
    Raises: ValueError for values outside these ranges.
    Source: Zhang, Lang, Liu and Xiao, 2020, arXiv:2002.10597 (SASA+); Yaida, 2018, arXiv:1810.00004, equation (FDR1).
    """

    _STATE: ClassVar[tuple[str, ...]] = (
        *SampledRuleLR._STATE,
        "_squares",
        "_sampled_rates",
        "_drifts",
        "_num_drifts",
    )
    rule = "stationarity"
    timed_by = ("min_samples", "sample_every")

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        check_every: int = 500,
        sample_every: int = 10,
        min_samples: int = 40,
        leak_ratio: int = 2,
        level: float = 0.05,
        factor: float = 0.1,
        min_lr: float = 1e-6,
    ) -> None:
        self._require(sample_every >= 1, f"sample_every must be >= 1, got {sample_every}")
        fits = check_every >= 1 and check_every % sample_every == 0
        self._require(fits, f"check_every must be a multiple of sample_every = {sample_every}, got {check_every}")
        self._require(leak_ratio >= 1, f"leak_ratio must be >= 1, got {leak_ratio}")
        self._require(min_samples >= 20, f"min_samples must be >= 20, got {min_samples}")
        self._require(0 < level < 1, f"level must be in (0, 1), got {level}")
        self.min_samples = min_samples
        self.leak_ratio = leak_ratio
        self.level = level
        self._squares: Tensor | None = None  # (groups,), at the last sample
        self._sampled_rates: Tensor | None = None  # (groups,)
        self._drifts: list[float] = []  # of the latest stretches since the last decay
        self._num_drifts = 0  # stretches since the last decay
        super().__init__(optimizer, check_every=check_every, sample_every=sample_every, factor=factor, min_lr=min_lr)

    @property
    def first_decision(self) -> int:
        """Updates until there are enough stretches; the first one has no beginning."""
        num_updates = (self.leak_ratio * (self.min_samples - 1) + 2) * self.sample_every
        return -(-num_updates // self.check_every) * self.check_every

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._squares = self._sampled_rates = None  # the next sample may be another number of updates away

    def _sample(self) -> Tensor:
        """The mean of D since the last sample: nan where there was none, or a rate changed."""
        squares = squared_norms(self.optimizer)
        lrs = [torch.as_tensor(group["lr"], dtype=squares.dtype) for group in _groups(self.optimizer)]
        rates = torch.stack([lr.to(squares.device, non_blocking=True) for lr in lrs])
        drift = torch.full((), float("nan"), dtype=squares.dtype, device=squares.device)
        if self._squares is not None and self._sampled_rates is not None and len(self._squares) == len(squares):
            before, rates_before = self._squares.to(squares.device), self._sampled_rates.to(squares.device)
            # a group at rate 0 rests: it does not move, and has no D
            mean = torch.where(rates > 0, (before - squares) / (2 * rates), 0.0).sum() / self.sample_every
            drift = torch.where((rates == rates_before).all(), mean, drift)
        self._squares, self._sampled_rates = squares, rates
        return drift

    def _decide(self, losses: Tensor) -> dict[str, Any]:
        found = [drift for drift in self._take_samples().tolist() if math.isfinite(drift)]
        self._num_drifts += len(found)
        num_kept = -(-self._num_drifts // self.leak_ratio)
        self._drifts = (self._drifts + found)[len(self._drifts) + len(found) - num_kept :]
        if num_kept < self.min_samples:
            return {"num_samples": num_kept, "decision": "keep"}
        is_stationary, evidence = self._test(torch.tensor(self._drifts, dtype=torch.float64, device="cpu"))
        if is_stationary:
            self._decay()
            self._drifts, self._num_drifts = [], 0
        return {**evidence, "decision": "decay" if is_stationary else "keep"}

    def _test(self, drifts: Tensor) -> tuple[bool, dict[str, Any]]:
        whole = batch_means_estimate(drifts)
        halves = [Estimate(float(half.mean()), whole.std_error * math.sqrt(2), whole.dof) for half in drifts.chunk(2)]
        p, *half_ps = [2 * min(part.p_above(0.0), 1 - part.p_above(0.0)) for part in (whole, *halves)]
        evidence = {
            "drift": whole.value,
            "std_error": whole.std_error,
            "dof": whole.dof,
            "num_samples": len(drifts),
            "p": p,
            "least_half_p": min(half_ps),
            "threshold": self.level,
        }
        return min(p, *half_ps) >= self.level, evidence


def squared_norms(optimizer: Optimizer) -> Tensor:
    """Squared norm of the weights of each parameter group that has some, (groups,) on the device.

    In float64; on Apple's GPUs, which have none, in float32, of which a small drift is lost in the rounding.
    """
    squares = []
    for group in _groups(optimizer):
        weights = [one.detach() for one in group["params"]]
        dtype = torch.float32 if weights[0].device.type == "mps" else torch.float64
        squares.append(torch.stack(torch._foreach_norm(weights, 2, dtype=dtype)).square().sum())
    return torch.stack(squares)


def _groups(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Parameter groups that are not empty."""
    return [group for group in optimizer.param_groups if group["params"]]
