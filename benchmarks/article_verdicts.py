"""From one number a seed to a verdict on a claim: true, false or undecided, by the statistics of `lrlab compare`.

Numbers are signed so that the claim says: above zero. The verdict is true where the 95 % interval of their mean lies
wholly above zero, false where it lies wholly below, undecided otherwise. Where several numbers answer one claim, the p
value that belongs to the interval is adjusted after Holm first. A claim that two things do not differ says: closer to
zero than a margin; it is true where the interval lies wholly within the margin, false where wholly outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from lrlab.compare.statistics import (
    LEVEL,
    Interval,
    are_alike,
    bootstrap_interval,
    effect_size,
    holm,
    sign_flip_p,
    student_interval,
    student_p,
)
from measuring import digits

Verdict = Literal["true", "false", "undecided"]


@dataclass(frozen=True)
class Estimate:
    """What the seeds say about one number."""

    values: Mapping[int, float]
    """Seed -> number."""
    mean: float
    interval: Interval | None
    """Student's, 95 %; none for one seed, or where all seeds are alike."""
    bootstrap: Interval | None
    p: float | None
    """That the mean is on the claim's border: zero, or the nearer end of the margin."""
    p_sign_flip: float | None
    """That the mean is zero, without assuming a distribution."""
    effect_size: float | None
    margin: float | None
    p_holm: float | None = None
    num_tested: int = 0
    """How many p values were adjusted for each other."""
    verdict: Verdict = "undecided"

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def num_above(self) -> int:
        """Seeds with a number above zero."""
        return sum(value > 0 for value in self.values.values())


def estimate(values: Mapping[int, float], *, margin: float | None = None) -> Estimate:
    """Describe one number a seed; what needs the others of its claim comes with `judge`.

    Args:
        values: seed -> number, at least one.
        margin: > 0 for the claim that the mean lies within -margin and margin; None for that it is above zero.
    """
    numbers = np.array(list(values.values()), np.float64)
    found = Estimate(values, float(numbers.mean()), None, None, None, None, None, margin)
    if len(numbers) < 2:
        return found
    borders = [0.0] if margin is None else [-margin, margin]
    # with both ends of a margin outside the interval, the mean is wholly within or wholly beyond
    found = replace(found, p=max(_p(numbers - border) for border in borders), p_sign_flip=sign_flip_p(numbers))
    if are_alike(numbers):
        return found
    return replace(
        found,
        interval=Interval(*map(float, student_interval(numbers))),
        bootstrap=Interval(*map(float, bootstrap_interval(numbers))),
        effect_size=effect_size(numbers) if len(numbers) > 2 else None,
    )


def judge(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Adjust the p values of one claim's numbers for each other, and say of each what it shows."""
    tested = [found.p for found in estimates if found.p is not None]
    adjusted = iter(holm(tested).tolist())
    return [found if found.p is None else _judge(found, next(adjusted), len(tested)) for found in estimates]


def _judge(found: Estimate, p_holm: float, num_tested: int) -> Estimate:
    holds = found.mean > 0 if found.margin is None else abs(found.mean) < found.margin
    verdict: Verdict = "undecided"
    if p_holm <= LEVEL:
        verdict = "true" if holds else "false"
    return replace(found, p_holm=p_holm, num_tested=num_tested, verdict=verdict)


def _p(numbers: npt.NDArray[np.float64]) -> float:
    """Of Student's test, or of the sign-flip test where there is no spread, as `lrlab compare` does it."""
    return sign_flip_p(numbers) if are_alike(numbers) else float(student_p(numbers))


def verdict_line(parts: Mapping[str, Verdict]) -> str:
    """Say in bold what holds: one verdict where all parts agree, otherwise each with what it is of."""
    named = {verdict: [part for part, given in parts.items() if given == verdict] for verdict in parts.values()}
    if len(named) == 1:
        return f"**{next(iter(named)).capitalize()}.**"
    return "; ".join(f"**{verdict}** of {', '.join(of)}" for verdict, of in named.items()) + "."


def p_text(p: float | None) -> str:
    """Write a p value, or nothing where there is none."""
    return "" if p is None else f"{p:.1g}" if p < 0.01 else f"{p:.2f}"


def points(found: Estimate) -> str:
    """Write a mean of accuracies with its interval, in points."""
    interval = "" if found.interval is None else " ({:+.2f} to {:+.2f})".format(*(100 * end for end in found.interval))
    return f"{100 * found.mean:+.2f}{interval}"


def factor(found: Estimate) -> str:
    """Write a mean of decimal logarithms with its interval, as factors."""
    interval = "" if found.interval is None else " ({} to {})".format(*(times(end) for end in found.interval))
    return f"{times(found.mean)}{interval}"


def times(logarithm: float) -> str:
    """Write a decimal logarithm as a factor, without an exponent: 0.0123, 0.85, 1.62, 34.1, 203."""
    value = 10**logarithm
    return f"{value:.2f}" if 0.1 <= value < 10 else digits(value)
