"""Time to a target, where some runs never get there, and what AlgoPerf makes of it over several tasks."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy  # its statistics load when they are first used

from lrlab.compare.measures import OfEvaluations
from lrlab.compare.statistics import CONFIDENCE, Interval
from lrlab.runs import Run

Array = npt.NDArray[np.float64]

MOST_RATIO: Final = 4.0
"""An arm that takes more than so many times as long as the quickest counts as one that never gets there (AlgoPerf)."""
NUM_SCORE_RESAMPLES: Final = 4_999
FEWEST_FOR_INTERVAL: Final = 5
"""Below it a score and a median have no interval: that of a median would hold it in 87 % of studies at the most."""


@dataclass(frozen=True)
class Time:
    """When a run first showed the target, or how long it is known not to have."""

    reached: bool
    """Whether it did, at an update at which the others were evaluated too."""
    shown_at: float | None
    """Update of the first of all its evaluations that showed it; None if none did."""
    is_final: bool
    """Whether its time is known for good: it is reached, or the run is over without it, and was not cut short."""
    updates: float
    """Up to the evaluation that showed it; else up to the last one, and infinite where the run is over without it."""
    seconds: float
    """Of training, evaluations left out; nan where the run does not say."""


@dataclass(frozen=True)
class Median:
    """The median of times, some of which are only known to be longer than something."""

    value: float | None
    """None where fewer than half get there."""
    low: float | None
    """Lower end of its 95 % interval; None below 5 runs."""
    high: float | None
    """Upper end; None where it is open, too."""


@dataclass(frozen=True)
class Race:
    """Which of two arms got to the target first, seed by seed."""

    first: int
    """Seeds in which the arm did."""
    second: int
    """Seeds in which the reference did."""
    neither: int
    """Seeds in which both took as many updates, or neither got there."""
    unknown: int
    """Seeds in which a run was cut short too early to tell, or showed the target where others were not looked at."""
    p: float | None
    """Exact sign test, two-sided; None where no seed tells."""


def times_to_target(runs: Sequence[Run], measure: OfEvaluations, target: float) -> list[Time]:
    """Return when each of several runs first showed the target.

    They are looked at alike: an evaluation counts if all that went on so far were evaluated at that update. Else the
    one that is looked at more often would be sooner for that alone. A run that ended without it never will.
    """
    looks = [{int(record["step"]): record for record in run.evaluations() if measure.is_in(record)} for run in runs]
    lasts = [max(of_run, default=-1) for of_run in looks]
    steps = sorted({step for of_run in looks for step in of_run})
    common = {
        step for step in steps if all(step in of_run for of_run, last in zip(looks, lasts, strict=True) if last >= step)
    }
    return [_time(run, of_run, common, measure, target) for run, of_run in zip(runs, looks, strict=True)]


def _time(
    run: Run, looks: Mapping[int, Mapping[str, Any]], common: Set[int], measure: OfEvaluations, target: float
) -> Time:
    showing = [step for step, record in looks.items() if measure.reaches(record, target)]
    shown_at = float(showing[0]) if showing else None
    first = next((step for step in showing if step in common), None)
    if first is not None:
        return Time(True, shown_at, True, float(first), float(looks[first].get("seconds", np.nan)))
    if not showing and (run.status == "diverged" or (run.status == "complete" and looks)):
        return Time(False, None, True, np.inf, np.inf)
    last = max((step for step in common if step in looks), default=None)
    if last is None:
        return Time(False, shown_at, False, 0.0, 0.0)  # nobody looked
    return Time(False, shown_at, False, float(last), float(looks[last].get("seconds", np.nan)))


def median_time(times: Array, reached: npt.NDArray[np.bool_]) -> Median:
    """Kaplan-Meier median of times, with the interval that its log-log band gives (Brookmeyer and Crowley), by scipy.

    Args:
        times: (n,), that of the target, or the longest known without it (infinite: never).
        reached: (n,), which of the two.
    """
    if not reached.any() or np.isnan(times).any():
        return Median(None, None, None)
    beyond = 1.0 + 2.0 * times[np.isfinite(times)].max()
    finite = np.where(np.isfinite(times), times, beyond)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the band, where it is not defined
        survival = scipy.stats.ecdf(scipy.stats.CensoredData.right_censored(finite, ~reached)).sf
        band = survival.confidence_interval(CONFIDENCE, method="log-log")

    def crossing(probabilities: Array) -> float | None:
        # the band is not defined where none has got there yet, or all have: it is the estimate itself there
        known = np.where(np.isnan(probabilities), survival.probabilities, probabilities)
        below = np.flatnonzero(known <= 0.5)
        at = float(survival.quantiles[below[0]]) if below.size else np.inf
        return None if at >= beyond else at

    value = crossing(survival.probabilities)
    if len(times) < FEWEST_FOR_INTERVAL:
        return Median(value, None, None)
    return Median(value, crossing(band.low.probabilities), crossing(band.high.probabilities))


def race(arm: Sequence[Time], reference: Sequence[Time]) -> Race:
    """Count in which seeds each of two arms took fewer updates, and test whether it is as often the one as the other.

    Args:
        arm: a time for each seed.
        reference: the other arm's, of the same seeds.
    """
    order = [_order(one, other) for one, other in zip(arm, reference, strict=True)]
    first, second, unknown = order.count(-1), order.count(1), order.count(None)
    p = float(scipy.stats.binomtest(first, first + second).pvalue) if first + second else None
    return Race(first, second, order.count(0), unknown, p)


def _order(one: Time, other: Time) -> int | None:
    """Return -1 if one was first, 1 if the other was, 0 for neither, None where it cannot be known."""
    if one.reached and other.reached:
        return int(np.sign(one.updates - other.updates))
    if one.reached:
        return -1 if other.updates >= one.updates else None
    if other.reached:
        return 1 if one.updates >= other.updates else None
    return 0 if one.shown_at is None and other.shown_at is None else None


@dataclass(frozen=True)
class Profile:
    """How an arm does over several tasks, beside the quickest arm of each."""

    arm: str
    ratios: Mapping[str, float | None]
    """Task -> median time over that of the quickest arm; None where it is beyond 4, or never."""
    score: float
    """AlgoPerf's: the mean over the ratios tau from 1 to 4 of the share of tasks done within tau."""
    low: float | None
    """Lower end of its 95 % interval over seeds, the tasks given; None below 5 seeds."""
    high: float | None


def profiles(times: Mapping[str, Mapping[str, Array]]) -> list[Profile]:
    """Return the profile of each arm that was run on all tasks.

    Args:
        times: task -> arm -> updates to the target, (n,), infinite where it was not reached; in a task, the arms have
            the same seeds in the same order.
    """
    first, *others = times.values()
    arms = [arm for arm in first if all(arm in other for other in others)]
    stacked = [np.stack([of_task[arm] for arm in arms]) for of_task in times.values()]  # (arms, seeds) for each task
    ratios = performance_ratios(np.stack([np.median(each, axis=-1) for each in stacked], axis=-1))
    intervals = _score_intervals(stacked)
    return [
        Profile(
            arm,
            {task: float(ratio) if np.isfinite(ratio) else None for task, ratio in zip(times, row, strict=True)},
            float(score),
            *(interval or (None, None)),
        )
        for arm, row, score, interval in zip(arms, ratios, performance_score(ratios), intervals, strict=True)
    ]


def performance_ratios(times: Array) -> Array:
    """Times over the quickest arm's, r = t / min t, infinite beyond 4 or where nothing gets there.

    Args:
        times: (..., arms, tasks).
    Source: AlgoPerf, scoring/performance_profile.py; Dolan and More, 2002, Mathematical Programming 91:201.
    """
    quickest = times.min(axis=-2, keepdims=True)
    ratios = np.divide(times, quickest, out=np.full_like(times, np.inf), where=np.isfinite(quickest) & (quickest > 0))
    ratios[(times == quickest) & np.isfinite(times)] = 1.0  # of one that was there before the first update, too
    return np.where(ratios > MOST_RATIO, np.inf, ratios)


def performance_score(ratios: Array) -> Array:
    """AlgoPerf's score, (..., arms): 1 / (R - 1) times the integral from 1 to R of rho(tau), R = 4.

    rho(tau) is the share of tasks with r <= tau, so a task adds the part of [1, R] that lies above its ratio.

    Args:
        ratios: (..., arms, tasks).
    """
    gained: Array = np.clip(MOST_RATIO - ratios, 0.0, None).mean(axis=-1) / (MOST_RATIO - 1)
    return gained


def _score_intervals(stacked: Sequence[Array]) -> list[Interval | None]:
    """Percentiles of the scores when the seeds of each task are drawn again, the same for all arms."""
    num_arms = len(stacked[0])
    if min(each.shape[-1] for each in stacked) < FEWEST_FOR_INTERVAL:
        return [None] * num_arms
    generator = np.random.default_rng(0)
    medians = []
    for each in stacked:
        drawn = generator.integers(each.shape[-1], size=(NUM_SCORE_RESAMPLES, each.shape[-1]))
        medians.append(np.median(each[:, drawn], axis=-1))  # (arms, resamples)
    scores = performance_score(performance_ratios(np.stack(medians, axis=-1).swapaxes(0, 1)))  # (resamples, arms)
    tail = 50 * (1 - CONFIDENCE)
    return [Interval(*map(float, ends)) for ends in np.percentile(scores, [tail, 100 - tail], axis=0).T]
