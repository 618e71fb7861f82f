"""Statistics of paired differences: pure functions on arrays, scipy's wherever scipy has them.

Differences are one number a seed, (..., n) with the seeds last, so that a thousand studies are one call.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when they are first used: they take a second

Array = npt.NDArray[np.float64]

CONFIDENCE: Final = 0.95
LEVEL: Final = 1 - CONFIDENCE
"""Share of false alarms that a test may make."""
POWER: Final = 0.8
"""Share of studies that must find a difference before it counts as one that they could have shown."""
NUM_RESAMPLES: Final = 9_999
"""Of a bootstrap and of a sign-flip test; the latter is exact where all flips are fewer, up to 13 seeds."""
MOST_SEEDS_NEEDED: Final = 10_000
"""Beyond it the number of seeds needed is not counted."""


class Interval(NamedTuple):
    """Ends of an interval, in the unit of what it is of."""

    low: Any
    high: Any


def are_alike(differences: Array) -> bool:
    """Whether differences are the same up to the rounding of a subtraction, so that there is no spread to measure."""
    return bool(np.ptp(differences) <= 1e-12 * max(1.0, np.abs(differences).max()))


def side_of_level(p: float) -> str:
    """Write on which side of the level a p lies that is too near to it for its digits to tell."""
    return f"{'<=' if p <= LEVEL else '>'} {LEVEL:.2g}"


def student_interval(differences: Array, confidence: float = CONFIDENCE) -> Interval:
    """Student's interval of the mean, mean -+ t * s / sqrt(n), by scipy.

    Args:
        differences: (..., n), n >= 2, not all alike.
        confidence: of the interval.
    Returns: ends of shape (...).
    """
    return Interval(*scipy.stats.ttest_1samp(differences, 0.0, axis=-1).confidence_interval(confidence))


def student_p(differences: Array) -> Any:
    """Two-sided p of Student's paired test that the mean is zero, by scipy, (...); it agrees with the interval."""
    return scipy.stats.ttest_1samp(differences, 0.0, axis=-1).pvalue


def bootstrap_interval(differences: Array, confidence: float = CONFIDENCE) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of the mean, by scipy, (...); always the same for the same."""
    found = scipy.stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=NUM_RESAMPLES,
        confidence_level=confidence,
        axis=-1,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(found.low, found.high)


def sign_flip_p(differences: Array) -> float:
    """Two-sided p of the test that each difference is as likely to have the other sign, by scipy.

    It assumes no distribution. Exact up to 13 seeds, by random flips beyond.

    Args:
        differences: (n,), n >= 2.
    """
    largest = np.abs(differences).max()
    if largest == 0:
        return 1.0

    def mean(values: Array, axis: int) -> Array:
        # accuracies are k / N, so that flips tie, which the last digits of their differences would break
        rounded: Array = np.round(values.mean(axis=axis) / largest, 9)
        return rounded

    found = scipy.stats.permutation_test(
        (differences,),
        mean,
        permutation_type="samples",
        n_resamples=NUM_RESAMPLES,
        vectorized=True,
        axis=-1,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def sign_flip_floor(num_seeds: int) -> float:
    """Least p that `sign_flip_p` can give: 2 / 2^n, all differences having one sign, or what random flips resolve."""
    return float(2.0 ** (1 - num_seeds)) if is_sign_flip_exact(num_seeds) else 2.0 / (NUM_RESAMPLES + 1)


def is_sign_flip_exact(num_seeds: int) -> bool:
    """Whether `sign_flip_p` goes through all flips."""
    return num_seeds <= int(np.log2(NUM_RESAMPLES))


def holm(p_values: npt.ArrayLike) -> Array:
    """Adjust p values of one family so that any false alarm among them is as rare as the level says.

    Sorted, the i-th of m is multiplied by m - i + 1; none falls below the one before it, and none exceeds 1.

    Args:
        p_values: (..., m).
    Source: Holm, 1979, Scandinavian Journal of Statistics 6:65. scipy has no such function.
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, axis=-1)
    factors = np.arange(values.shape[-1], 0, -1)
    ordered = np.take_along_axis(values, order, axis=-1) * factors
    adjusted = np.empty_like(values)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(ordered, axis=-1), 1.0), axis=-1)
    return adjusted


def effect_size(differences: Array) -> float:
    """Mean difference in standard deviations of the differences, d_z, with Hedges' correction for few seeds.

    g = J d_z with J = gamma(f / 2) / (sqrt(f / 2) gamma((f - 1) / 2)) and f = n - 1.

    Args:
        differences: (n,), n >= 3, not all alike.
    Source: Hedges, 1981, Journal of Educational Statistics 6:107, eq. 6e.
    """
    half = (len(differences) - 1) / 2
    correction = np.exp(scipy.special.gammaln(half) - scipy.special.gammaln(half - 0.5)) / np.sqrt(half)
    return float(correction * differences.mean() / differences.std(ddof=1))


def power(difference: npt.ArrayLike, num_seeds: int, *, level: float = LEVEL) -> Any:
    """Share of studies of so many seeds in which Student's two-sided paired test finds a difference.

    Args:
        difference: the true one, in standard deviations of the differences; any shape.
        num_seeds: >= 2.
        level: of the test.
    """
    freedom = num_seeds - 1
    critical = scipy.stats.t.isf(level / 2, freedom)
    centre = np.minimum(np.abs(difference) * np.sqrt(num_seeds), 1e6)
    # noncentral t up to either end; scipy has nan where it is below about 1e-8
    below, missed = (np.nan_to_num(scipy.special.nctdtr(freedom, centre, end)) for end in (-critical, critical))
    return 1.0 - missed + below


def detectable_difference(num_seeds: int, *, level: float = LEVEL) -> float:
    """Smallest difference that 80 % of studies of so many seeds find, in standard deviations of the differences."""
    critical = scipy.stats.t.isf(level / 2, num_seeds - 1)
    most = (critical + 10) * 4 / np.sqrt(num_seeds)  # with so few seeds the power rises slowly
    found = scipy.optimize.brentq(lambda size: float(power(size, num_seeds, level=level)) - POWER, 0.0, most)
    return float(found)


def seeds_needed(difference: float, *, level: float = LEVEL) -> int | None:
    """Least number of seeds with which 80 % of studies find a difference; None beyond 10,000.

    Args:
        difference: in standard deviations of the differences.
        level: of the test.
    """

    def suffices(num_seeds: int) -> bool:
        return float(power(difference, num_seeds, level=level)) > POWER - 1e-9  # the rounding of noncentral t

    few, many = 1, MOST_SEEDS_NEEDED  # too few, enough
    if not suffices(many):
        return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if suffices(middle) else (middle, many)
    return many


def spread_factors(num_seeds: int, confidence: float = CONFIDENCE) -> Interval:
    """By what factor the true standard deviation may differ from one measured with so many seeds (chi-squared)."""
    freedom = num_seeds - 1
    tail = (1 - confidence) / 2
    return Interval(*(float(np.sqrt(freedom / scipy.stats.chi2.isf(share, freedom))) for share in (tail, 1 - tail)))
