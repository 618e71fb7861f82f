"""The tests that rules decide by: how far a mean or a slope is from where it should be, in noise that remembers.

They need torch alone, as the schedulers do; tests hold them equal to scipy's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

MOST_CORRELATED = 0.99
"""Above this lag-one correlation a series has next to no independent values, and the estimate means nothing."""


@dataclass(frozen=True)
class Estimate:
    """A number that was estimated from noisy values, and how well."""

    value: float
    std_error: float
    dof: float
    """Degrees of freedom of the standard error."""
    autocorrelation: float = 0.0
    """Of the noise from one value to the next, as far as it was corrected for."""

    def p_above(self, bound: float) -> float:
        """Return p of the hypothesis that the number is at most `bound`: small where it clearly lies above."""
        distance = self.value - bound
        if self.std_error == 0.0:
            return 0.5 if distance == 0.0 else float(distance < 0)
        return 1.0 - student_cdf(distance / self.std_error, self.dof)


def mean_estimate(values: Tensor) -> Estimate:
    """The mean of values whose noise is a first-order autoregression.

    Args:
        values: oldest first, (n,), float64 on the CPU, n >= 3.
    """
    count = len(values)
    mean = values.mean()
    return _estimate(mean, values - mean, spread=count, num_parameters=1)


def batch_means_estimate(values: Tensor) -> Estimate:
    """The mean of values whose noise remembers, by the scatter of the means of about sqrt(n) batches of them.

    Unlike `mean_estimate` it takes a trend for no more than it is: values that fall from 3 to 1 are not near zero.

    Args:
        values: oldest first, (n,), float64 on the CPU, n >= 9; what does not fill a batch is left out, from the oldest.
    Source: Conway, 1963, doi:10.1287/mnsc.10.1.47; as in SASA+.
    """
    size = math.isqrt(len(values))
    means = values[len(values) % size :].view(-1, size).mean(1)
    std_error = float(means.std()) / math.sqrt(len(means))
    return Estimate(float(means.mean()), std_error, len(means) - 1.0)


def slope_estimate(values: Tensor) -> Estimate:
    """The slope of a line through values whose noise is a first-order autoregression, per value.

    Least squares, with a standard error for as many independent values as the residuals are worth:

        n' = n (1 - r) / (1 + r),    s^2 = RSS / (n' - 2),    std_error^2 = 12 s^2 / (n^3 - n),    dof = n' - 2

    r is the residuals' correlation from one to the next, corrected for its bias of about -(2 + 4 r) / n, and 0 where
    it is negative, which would make the slope look more certain than it is.

    Args:
        values: oldest first, (n,), float64 on the CPU, n >= 4.
    Source: Santer et al., 2000, doi:10.1029/1999JD901105, equations (3) to (6); the bias after Kendall, 1954.
    """
    times, spread = centred_times(len(values))
    slope = times.dot(values) / spread
    return _estimate(slope, values - values.mean() - slope * times, spread=spread, num_parameters=2)


@lru_cache(maxsize=16)
def centred_times(count: int) -> tuple[Tensor, float]:
    """Positions of so many values about their mean, (count,) float64, not to be changed; and their sum of squares."""
    return torch.arange(count, dtype=torch.float64, device="cpu") - (count - 1) / 2, (count**3 - count) / 12


def _estimate(value: Tensor, residuals: Tensor, *, spread: float, num_parameters: int) -> Estimate:
    count = len(residuals)
    rss = float(residuals.dot(residuals))
    biased = float(residuals[1:].dot(residuals[:-1])) / rss if rss > 0 else 0.0
    correlation = (biased + num_parameters / count) / (1 - 4 / count) if count > 4 else 0.0
    correlation = min(max(correlation, 0.0), MOST_CORRELATED)
    dof = max(2.0, count * (1 - correlation) / (1 + correlation) - num_parameters)
    return Estimate(float(value), math.sqrt(rss / dof / spread), dof, correlation)


def student_cdf(t: float, dof: float) -> float:
    """Probability that Student's t with `dof` degrees of freedom, >= 2, is at most t; to 3e-4, from 5 on to 1e-6.

    Source: Hill, 1970, "Algorithm 395: Student's t-distribution", Communications of the ACM 13(10), the normal
        deviate of the same probability.
    """
    a = dof - 0.5
    b = 48 * a * a
    y = a * math.log1p(t * t / dof)
    deviate = math.sqrt(y) * (
        1 + (((((-0.4 * y - 3.3) * y - 24.0) * y - 85.5) / (0.8 * y * y + 100.0 + b)) + y + 3.0) / b
    )
    return normal_cdf(math.copysign(deviate, t))


def normal_cdf(z: float) -> float:
    """Probability that a standard normal number is at most z."""
    return 0.5 * math.erfc(-z / math.sqrt(2))
