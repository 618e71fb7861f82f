"""Decay once Adam's own moments show no signal above the noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lrlab.moments import check_moments, moment_sums
from lrlab.schedulers.sampled import SampledRuleLR
from lrlab.schedulers.statistics import mean_estimate

LEAST_SAMPLES = 5
"""Fewer samples in a look tell nothing of how they scatter."""


class SnrLR(SampledRuleLR):
    """Decay when the gradient can no longer be told from noise, by the moments that Adam keeps anyway.

    For one number of a layer group let the gradients be g_t = G + e_t, the noise e independent from one update to the
    next with variance V. Then of Adam's moments, once both have forgotten their start:

        E[m^2] = G^2 + V (1 - beta1) / (1 + beta1),    E[v] = G^2 + V

    so that the ratio of their sums over the group, R = sum m_hat^2 / sum v_hat, is 1 without noise and, where there
    is nothing but noise, r0 = (1 - beta1) / (1 + beta1): 0.053 for beta1 = 0.9. In between

        signal = (R - r0) / (1 - r0) = |G|^2 / (|G|^2 + tr V)

    is the share of the squared gradient that points the same way at every update. In the first updates r0 is larger,
    r0(t) = (1 - beta1)^2 (1 - beta1^2t) / ((1 - beta1^2) (1 - beta1^t)^2), which is accounted for.

    The signal is sampled every `sample_every` updates, by default after the first moment has forgotten nearly all of
    the last sample, as its mean over the layer groups. Every `check_every` updates it decays unless the samples since
    the last look show, by a one-sided t-test with the standard error corrected for autocorrelation, a signal above
    `min_signal`. A signal below 0 is no error: successive gradients oppose each other where the rate is too high for
    the curvature, and then too it decays.

    What misleads it: v averages over about 1 / (1 - beta2) updates, so where gradients grow or shrink within as many,
    R is too large or too small; weight decay that is added to the gradient (Adam, not AdamW) is a signal that stays.

    Args:
        optimizer: Adam, AdamW, NAdam, RAdam or one that keeps its moments likewise: "betas" in each group, beta1 in
            (0, 1); "step", "exp_avg" and "exp_avg_sq" of each parameter.
        check_every: updates between two looks; at least 5 * sample_every.
        sample_every: updates between two samples, >= 1.
        min_signal: share of the squared gradient, in [0, 1).
        level: of the test, in (0, 0.5).
        factor: the rates are multiplied by it, in (0, 1).
        min_lr: floor of the rates, >= 0.
    Raises: ValueError for values outside these ranges, or an optimizer without such moments.
    Source: the article's first wish; the derivation is ours. Moments: Kingma and Ba, 2015, arXiv:1412.6980.
    """

    rule = "snr"

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        check_every: int = 500,
        sample_every: int = 20,
        min_signal: float = 0.0,
        level: float = 0.05,
        factor: float = 0.1,
        min_lr: float = 1e-6,
    ) -> None:
        check_moments(optimizer, reader="SnrLR")
        self._require(sample_every >= 1, f"sample_every must be >= 1, got {sample_every}")
        fits = check_every >= LEAST_SAMPLES * sample_every
        self._require(fits, f"check_every must be at least {LEAST_SAMPLES} * sample_every, got {check_every}")
        self._require(0 <= min_signal < 1, f"min_signal must be in [0, 1), got {min_signal}")
        self._require(0 < level < 0.5, f"level must be in (0, 0.5), got {level}")
        self.min_signal = min_signal
        self.level = level
        super().__init__(optimizer, check_every=check_every, sample_every=sample_every, factor=factor, min_lr=min_lr)

    def _sample(self) -> Tensor:
        check_moments(self.optimizer, reader="SnrLR")
        return moments_signal(self.optimizer)

    def _decide(self, losses: Tensor) -> dict[str, Any]:
        samples = self._take_samples().to(torch.float64)
        samples = samples[torch.isfinite(samples)]  # after its first update Adam has none to give
        if len(samples) < LEAST_SAMPLES:
            return {"num_samples": len(samples), "signal": float("nan"), "decision": "keep"}
        signal = mean_estimate(samples)
        p = signal.p_above(self.min_signal)
        if p >= self.level:
            self._decay()
        return {
            "signal": signal.value,
            "std_error": signal.std_error,
            "dof": signal.dof,
            "autocorrelation": signal.autocorrelation,
            "num_samples": len(samples),
            "p": p,
            "threshold": self.level,
            "decision": "decay" if p >= self.level else "keep",
        }


def moments_signal(optimizer: Optimizer) -> Tensor:
    """Share of the squared gradient that is signal, by Adam's moments: its mean over the parameter groups, ().

    See `SnrLR` for the formula. Each parameter's moments are divided by its own bias, and r0 is the mean of theirs,
    weighted by their second moments: they may have made different numbers of updates. Parameters that have made none
    or a single one, after which R and r0 are both 1 whatever the gradients, or that are frozen by now, and groups whose
    second moment is zero, are left out; nan where that is all. Nothing is synchronised.
    """
    signals = []
    for group in optimizer.param_groups:
        states = [optimizer.state[weights] for weights in group["params"] if weights.requires_grad]
        states = [state for state in states if state]
        if states:
            signals.append(_group_signal(states, *(float(beta) for beta in group["betas"])))
    return torch.stack(signals).nanmean() if signals else torch.tensor(float("nan"))


def _group_signal(states: list[dict[str, Any]], beta1: float, beta2: float) -> Tensor:
    squares, seconds = moment_sums(states)  # (parameters,) each
    dtype = torch.float64 if squares.device.type == "cpu" else torch.float32
    steps = torch.stack([torch.as_tensor(state["step"], dtype=dtype) for state in states])
    steps = steps.to(squares.device, non_blocking=True)
    counts = steps > 1
    bias1, bias2 = 1 - beta1**steps, 1 - beta2**steps
    noises = (1 - beta1) ** 2 * (1 - beta1 ** (2 * steps)) / ((1 - beta1**2) * bias1**2)
    seconds = torch.where(counts, seconds / bias2, 0.0)
    whole = seconds.sum()
    ratio = torch.where(counts, squares / bias1**2, 0.0).sum() / whole
    noise = (seconds * noises).sum() / whole
    return (ratio - noise) / (1 - noise)  # nan where none counts: 0 / 0
