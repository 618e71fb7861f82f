"""One sweep of the rate from low to high: its losses, where it diverges, and the rate that it suggests."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[np.float64]

FEWEST_STEPS = 20
"""Updates that a sweep must have: fewer leave nothing to average."""
SMOOTHED_SHARE = 0.05
"""Updates on either side of one that its smoothed loss rests on, as a share of the sweep's."""
DIVERGED = 4.0
"""Multiple of the least mean loss that counts as diverged, as in fastai."""
SAFETY = 10.0
"""The suggestion is this many times below the rate at the least loss."""
NUM_STANDARD_ERRORS = 4.0
"""By which the loss must have fallen; the least of some twenty means of nothing but noise lies 2 to 3 below."""


@dataclass(frozen=True)
class RateRange:
    """Rates that grow by the same factor at each update: start * (end / start)^((step - 1) / (num_steps - 1))."""

    start: float = 1e-6
    """Rate of the first update."""
    end: float = 10.0
    """Rate of the last one."""
    num_steps: int = 200
    """Updates."""

    def __post_init__(self) -> None:
        if not 0 < self.start < self.end < math.inf:
            raise ValueError(f"A sweep needs 0 < start < end, both finite, got {self.start:g} and {self.end:g}.")
        if self.num_steps < FEWEST_STEPS:
            raise ValueError(f"A sweep needs at least {FEWEST_STEPS} updates, got {self.num_steps}.")

    @property
    def factor(self) -> float:
        """By which the rate grows from one update to the next."""
        return float((self.end / self.start) ** (1 / (self.num_steps - 1)))

    def rates(self) -> list[float]:
        """Rate of each update."""
        return [float(rate) for rate in np.geomspace(self.start, self.end, self.num_steps)]

    @property
    def half_window(self) -> int:
        """Updates on either side of one that its smoothed loss rests on."""
        return max(2, round(SMOOTHED_SHARE * self.num_steps))


@dataclass(frozen=True)
class Sweep:
    """What came of one sweep."""

    seed: int
    """Of its random state."""
    lrs: tuple[float, ...]
    """Rate of each update whose loss was finite, lowest first."""
    losses: tuple[float, ...]
    """Loss of its batch before each of these updates."""
    smoothed: tuple[float, ...]
    """Mean of the losses around each of these updates."""
    diverged_at: float | None
    """Rate of the update at which the sweep was ended, since the loss had diverged; None if it came to its end."""
    suggestion: float | None
    """The rate to start with; None if this sweep shows none."""
    reason: str = ""
    """Why there is no suggestion."""


@dataclass(frozen=True)
class RangeTest:
    """Sweeps that differ in their seed, and what they suggest together."""

    rates: RateRange
    """What was swept."""
    sweeps: tuple[Sweep, ...]
    """One for each seed."""

    @property
    def suggestions(self) -> list[float]:
        """Of those sweeps that have one, lowest first."""
        return sorted(sweep.suggestion for sweep in self.sweeps if sweep.suggestion is not None)

    @property
    def suggestion(self) -> float | None:
        """The median of the suggestions, taken of their logarithms; None if there are none."""
        found = self.suggestions
        return math.exp(statistics.median(map(math.log, found))) if found else None

    def document(self) -> dict[str, Any]:
        """All of it as what JSON can hold, and `lrlab.report.write_range_test` draws."""
        found = self.suggestions
        return {
            "suggestion": self.suggestion,
            "least": found[0] if found else None,
            "largest": found[-1] if found else None,
            "start": self.rates.start,
            "end": self.rates.end,
            "steps": self.rates.num_steps,
            "sweeps": [
                {
                    "seed": sweep.seed,
                    "suggestion": sweep.suggestion,
                    "reason": sweep.reason,
                    "diverged_at": sweep.diverged_at,
                    "lr": list(sweep.lrs),
                    "loss": list(sweep.losses),
                    "smoothed": list(sweep.smoothed),
                }
                for sweep in self.sweeps
            ],
        }


class SweepRecorder:
    """Follows a sweep, loss by loss, until it ends or diverges.

    It has diverged once a loss is not finite, or the mean of the last losses is above both 4 times the least such
    mean and the first one. (A loss that has fallen to nearly nothing is 4 times as high by chance.)

    Args:
        rates: that the updates are made with.
        seed: of the sweep, to be told.
    """

    def __init__(self, rates: RateRange, *, seed: int) -> None:
        self._rates = rates
        self._seed = seed
        self._num_updates = 0
        self._losses: list[float] = []
        self._means: list[float] = []  # of the last half_window + 1 losses

    def add(self, loss: Tensor | float) -> bool:
        """Take the loss of the next update, and say whether it has diverged."""
        # a sync: a sweep ends with the update that diverged
        number = loss.detach().item() if isinstance(loss, Tensor) else float(loss)
        self._num_updates += 1
        if math.isfinite(number):
            self._losses.append(number)
            self._means += self._mean_of_the_last()
        return self._diverged

    def sweep(self) -> Sweep:
        """What came of the losses so far."""
        lrs, losses = np.array(self._rates.rates()), np.array(self._losses)
        suggestion, reason = suggest(lrs[: len(losses)], losses, self._rates.half_window, diverged=self._diverged)
        return Sweep(
            seed=self._seed,
            lrs=tuple(lrs[: len(losses)].tolist()),
            losses=tuple(self._losses),
            smoothed=tuple(smooth(losses, self._rates.half_window).tolist()),
            diverged_at=float(lrs[self._num_updates - 1]) if self._diverged else None,
            suggestion=suggestion,
            reason=reason,
        )

    @property
    def _diverged(self) -> bool:
        if self._num_updates > len(self._losses):
            return True
        return bool(self._means) and self._means[-1] > max(DIVERGED * min(self._means), self._means[0])

    def _mean_of_the_last(self) -> list[float]:
        width = self._rates.half_window + 1
        return [statistics.fmean(self._losses[-width:])] if len(self._losses) >= width else []


def smooth(losses: Array, half_window: int) -> Array:
    """Return the mean of each loss and those around it, (N,): as many before as after, fewer towards the ends.

    Unlike an exponential moving average it does not lag behind, which on an axis of rates is a bias: a value of
    fastai's, with 0.98, rests on the 50 updates before it, of the 100 of its sweep.
    """
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    index = np.arange(len(losses))
    reach = np.minimum(half_window, np.minimum(index, index[::-1]))
    return np.asarray((sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1))


def suggest(lrs: Array, losses: Array, half_window: int, *, diverged: bool) -> tuple[float | None, str]:
    """Suggest a rate: a tenth of that at which the smoothed loss is least; or say why there is none to suggest.

    It is looked for where a mean is one of w = 2 * half_window + 1 losses. There is none to suggest unless it is more
    than 4 standard errors below the mean of the first w losses,
        sqrt(2 / w) * 1.4826 * median |loss - smoothed|   of the losses up to the least,
    and the smoothed loss rose again after it, or the sweep diverged.

    Args:
        lrs: of each update, (N,), rising.
        losses: finite, (N,).
        half_window: see `smooth`.
        diverged: whether the sweep was ended since it diverged.
    Source: fastai's `minimum` suggestion (Howard and Gugger, 2020, arXiv:2002.04688); the test itself is that of
        Smith, 2017, arXiv:1506.01186, section 3.3. The other usual choice, the rate of the steepest fall (Lightning),
        is read off a derivative: over five seeds of CIFAR-10 it scattered by a factor of 3.3, this one by 1.7
        (docs/schedules.md).
    """
    width = 2 * half_window + 1
    if len(losses) <= width:
        return None, "it diverged almost at once: start at a lower rate"
    smoothed = smooth(losses, half_window)
    last = len(losses) - 1 - half_window
    least = half_window + int(smoothed[half_window : last + 1].argmin())
    scatter = 1.4826 * float(np.median(np.abs(losses - smoothed)[half_window : max(least, width)]))
    if smoothed[half_window] - smoothed[least] <= NUM_STANDARD_ERRORS * math.sqrt(2 / width) * scatter:
        return None, "the loss never fell by more than its noise: try more updates, or other rates"
    if not diverged and least == last:
        return None, "the loss still fell at the end: end with a higher rate"
    return float(lrs[least]) / SAFETY, ""
