"""Decay once the loss no longer falls: a test on the slope of all losses in a window."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from lrlab.schedulers.rule import RuleLR
from lrlab.schedulers.statistics import centred_times, normal_cdf, slope_estimate

TOP_SHARE = 0.1
"""Share of the largest losses that the robust half of the test leaves out, spikes among them; dlib's."""

DLIB_PROBABILITY = 0.51
"""dlib decays once the probability that the loss falls is below this."""


class SlopeLR(RuleLR):
    """Decay when the losses of a window show that the loss falls no longer, or by less than it should.

    Every `check_every` updates, with a line of slope m and standard error s through the last `window` losses, whose
    mean is L:

        p = P(T >= (m + min_progress * L / window) / s) < level * check_every / window
            ->  lr = max(lr * factor, min_lr); forget losses

    p is that of the hypothesis that the loss still falls by at least the share `min_progress` a window. T is
    Student's, and s allows for noise that carries over from one update to the next (see `slope_estimate`). The looks
    at one window share `level` among them, so that flat noise makes it decay in at most this share of windows. The
    same must hold once more without the largest tenth of the losses, so that a spike is not taken for a rise.

    With `min_progress = 0` it decays only on evidence that the loss rises: seldom, and long after it stopped to fall.
    That is safe before a reserved cooldown (`PhasesLR`), and little use without one: 0.01 to 0.05 make a plateau show
    within a few windows. What a window can tell: at noise of std sigma a change of about 2 sigma sqrt(12 / window).

    With `test="dlib"` it is the rule of dlib's trainer, exactly: look every floor(window / 200) + 1 updates, decay if
    P(m < 0) < 0.51, by the normal distribution and for independent noise, with all losses and with those up to their
    0.9 quantile put together without gaps; then forget the oldest 400 + window / 10. On a flat loss that fires in about
    half of its looks.

    Args:
        optimizer: any.
        test: "t" for the test above, "dlib" for dlib's.
        window: losses that are looked at, >= 10; before there are so many it keeps the rate.
        check_every: updates between two looks, >= 1 and at most `window`; with "dlib" it follows from the window.
        level: in (0, 0.5); not for "dlib".
        min_progress: share of the mean loss, in [0, 1); not for "dlib".
        forget: oldest losses that are forgotten at a decay, >= 1; all where it is None; with "dlib" it follows.
        factor: the rates are multiplied by it, in (0, 1).
        min_lr: floor of the rates, >= 0.
    Raises: ValueError for values outside these ranges.
    Source: dlib/dnn/trainer.h and dlib/statistics/running_gradient.h; the repairs are ours.
    """

    _STATE: ClassVar[tuple[str, ...]] = (*RuleLR._STATE, "_window")
    rule = "slope"
    timed_by = ("window",)

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        test: Literal["t", "dlib"] = "t",
        window: int = 1000,
        check_every: int | None = None,
        level: float | None = None,
        min_progress: float | None = None,
        forget: int | None = None,
        factor: float = 0.1,
        min_lr: float = 1e-6,
    ) -> None:
        self._require(test in ("t", "dlib"), f'test must be "t" or "dlib", got {test!r}')
        self._require(window >= 10 and window == int(window), f"window must be a whole number >= 10, got {window}")
        window = int(window)
        if test == "dlib":
            given = [check_every, level, min_progress, forget]
            free = all(value is None for value in given)
            self._require(free, 'check_every, level, min_progress and forget are fixed by test="dlib": leave them out')
            check_every, forget = window // 200 + 1, 400 + window // 10
        self.test = test
        self.window = window
        self.level = 0.05 if level is None else level
        self.min_progress = 0.0 if min_progress is None else min_progress
        self.forget = window if forget is None else forget
        check_every = max(1, window // 4) if check_every is None else check_every
        self._require(check_every <= window, f"check_every must be at most window = {window}, got {check_every}")
        self._require(0 < self.level < 0.5, f"level must be in (0, 0.5), got {level}")
        self._require(0 <= self.min_progress < 1, f"min_progress must be in [0, 1), got {min_progress}")
        self._require(self.forget >= 1, f"forget must be >= 1, got {forget}")
        self._window = torch.empty(0, dtype=torch.float64, device="cpu")
        super().__init__(optimizer, check_every=check_every, factor=factor, min_lr=min_lr)

    @property
    def first_decision(self) -> int:
        """Updates until the window is full and looked at."""
        return -(-self.window // self.check_every) * self.check_every

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._window = self._window[:0]  # a line through losses with updates between them that it did not hear

    def _decide(self, losses: Tensor) -> dict[str, Any]:
        self._window = torch.cat([self._window, losses])[-self.window :]
        if len(self._window) < self.window:
            return {"num_losses": len(self._window), "decision": "keep"}
        decays, evidence = self._falls_no_longer() if self.test == "t" else self._dlib_falls_no_longer()
        evidence = {"num_losses": self.window, **evidence, "decision": "decay" if decays else "keep"}
        if decays:
            self._decay()
            self._window = self._window[self.forget :]
        return evidence

    def _falls_no_longer(self) -> tuple[bool, dict[str, Any]]:
        mean_loss = float(self._window.mean())
        whole = slope_estimate(self._window)
        required = -self.min_progress * abs(mean_loss) / self.window
        threshold = self.level * self.check_every / self.window
        p, robust_p = whole.p_above(required), None
        if p < threshold:
            robust_p = slope_estimate(self._without_top()).p_above(required)
        evidence = {
            "slope": whole.value,
            "std_error": whole.std_error,
            "dof": whole.dof,
            "autocorrelation": whole.autocorrelation,
            "mean_loss": mean_loss,
            "required_slope": required,
            "p": p,
            "robust_p": robust_p,
            "threshold": threshold,
        }
        return robust_p is not None and robust_p < threshold, evidence

    def _dlib_falls_no_longer(self) -> tuple[bool, dict[str, Any]]:
        slope, std_error = _dlib_slope(self._window)
        p, robust_p = _probability_of_falling(slope, std_error), None
        if p < DLIB_PROBABILITY:
            robust_p = _probability_of_falling(*_dlib_slope(self._without_top()))
        evidence = {
            "slope": slope,
            "std_error": std_error,
            "p_falls": p,
            "robust_p_falls": robust_p,
            "threshold": DLIB_PROBABILITY,
        }
        return robust_p is not None and robust_p < DLIB_PROBABILITY, evidence

    def _without_top(self) -> Tensor:
        """The losses up to the 0.9 quantile, in order: the order statistic at round((n - 1) * 0.9), as in dlib."""
        position = math.floor((len(self._window) - 1) * (1 - TOP_SHARE) + 0.5)
        return self._window[self._window <= self._window.sort().values[position]]


def _dlib_slope(values: Tensor) -> tuple[float, float]:
    """Slope of the least-squares line, and its standard error for independent noise."""
    times, spread = centred_times(len(values))
    centred = values - values.mean()
    slope = float(times.dot(centred)) / spread
    rss = float(centred.dot(centred)) - slope * slope * spread
    return slope, math.sqrt(max(0.0, rss) / (len(values) - 2) / spread)


def _probability_of_falling(slope: float, std_error: float) -> float:
    """P(m < 0) for m normal around the slope; 0, 1 or 1/2 without noise."""
    if std_error == 0.0:
        return 0.5 if slope == 0.0 else float(slope < 0)
    return normal_cdf(-slope / std_error)
