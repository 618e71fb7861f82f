"""A comparison as tables of text, for a terminal or a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lrlab.compare.comparison import Arm, ArmTime, Comparison
from lrlab.compare.differences import Difference
from lrlab.compare.measures import Measure
from lrlab.compare.statistics import LEVEL, side_of_level
from lrlab.compare.times import Median

NOTHING = "-"
MOST_SEEDS_LISTED = 8
"""Seeds that a cell lists."""


class Listing(NamedTuple):
    """Rows of text under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def list_arms(comparison: Comparison, task: str) -> Listing:
    """List the arms of a task with the mean and the spread of their runs."""
    measure = comparison.measure
    unit = ", %" if measure.is_accuracy else ""
    rows = [
        (
            arm.name,
            str(len(arm.values)),
            _shown(arm.mean, measure.value_text),
            _shown(arm.std, measure.size_text),
            _left_out(arm) or "none",
        )
        for arm in comparison.arms
        if arm.task == task
    ]
    return Listing(("arm", "n", f"{measure.words}{unit}", "std", "seeds not counted"), rows)


def list_differences(comparison: Comparison, task: str) -> Listing:
    """List each pair of a task with its mean difference, interval and p."""
    measure, adjusted = comparison.measure, comparison.num_tested > 1
    rows = [
        (
            _pair(found),
            str(found.num_seeds),
            _shown(found.mean, measure.difference_text),
            _interval(found.interval, measure),
            _p(found.p),
            *([_p(found.p_holm)] if adjusted else []),
            f"{found.num_above}/{found.num_seeds}",
        )
        for found in comparison.differences
        if found.task == task
    ]
    holm = [f"Holm, {comparison.num_tested}"] if adjusted else []
    unit = measure.unit.replace(" ", ", ")
    return Listing((f"difference{unit}", "n", "mean", "95 % interval", "p", *holm, "seeds\n> 0"), rows)


def list_limits(comparison: Comparison, task: str) -> Listing:
    """List each pair of a task with its effect size, other tests of it, and what so many seeds could have shown."""
    measure = comparison.measure
    rows = [
        (
            _pair(found),
            _shown(found.effect_size, lambda size: f"{size:+.2f}"),
            _interval(found.bootstrap, measure),
            _p(found.p_sign_flip),
            _shown(found.detectable, lambda size: measure.size_text(size) if measure.can_differ_by(size) else ">100"),
            _seeds_needed(found),
        )
        for found in comparison.differences
        if found.task == task
    ]
    return Listing(
        (
            "difference",
            "effect\nsize",
            "bootstrap",
            "p of sign\nflips",
            "detectable,\n80 % power",
            "seeds for\n80 % power",
        ),
        rows,
    )


def list_times(comparison: Comparison, task: str) -> Listing | None:
    """List when the arms of a task got to its target; None if it has none."""
    times = [time for time in comparison.times if time.task == task]
    if not times:
        return None
    rows = [
        (
            time.arm,
            f"{time.num_reached} of {time.num_runs}",
            _median(time.updates, ",.0f", time),
            # seconds that are not on record are no race that was lost
            NOTHING
            if time.seconds.value is None and time.updates.value is not None
            else _median(time.seconds, ",.1f", time),
        )
        for time in times
    ]
    sign = ">=" if comparison.measure.is_accuracy else "<="
    target = f"{comparison.measure.name} {sign} {times[0].target:g}"
    return Listing((target, "reached", "updates", "seconds of training"), rows)


def list_profiles(comparison: Comparison) -> Listing | None:
    """List the score of each arm over all tasks, and its ratios to the quickest of each; None for a single task."""
    if not comparison.profiles:
        return None
    tasks = list(comparison.profiles[0].ratios)
    rows = [
        (
            profile.arm,
            f"{profile.score:.2f}"
            + (NOTHING if profile.low is None else f" ({profile.low:.2f} to {profile.high:.2f})"),
            *(_shown(profile.ratios[task], lambda ratio: f"{ratio:.2f}") for task in tasks),
        )
        for profile in comparison.profiles
    ]
    return Listing(("updates to the target, over the quickest", "score", *tasks), rows)


def _pair(found: Difference) -> str:
    return f"{found.arm} - {found.reference}"


def _left_out(arm: Arm) -> str:
    reasons: dict[str, list[str]] = {}
    for out in arm.left_out:
        reasons.setdefault(out.reason, []).append(str(out.seed))
    return "; ".join(f"{reason}: {', '.join(_some(seeds))}" for reason, seeds in reasons.items())


def _some(seeds: Sequence[str]) -> Sequence[str]:
    return (
        seeds
        if len(seeds) <= MOST_SEEDS_LISTED
        else [*seeds[: MOST_SEEDS_LISTED - 1], f"and {len(seeds) - MOST_SEEDS_LISTED + 1} more"]
    )


def _shown(value: Any, write: Callable[[Any], str]) -> str:
    return NOTHING if value is None else write(value)


def _interval(interval: tuple[float, float] | None, measure: Measure) -> str:
    return NOTHING if interval is None else " to ".join(map(measure.difference_text, interval))


def _p(p: float | None) -> str:
    if p is None:
        return NOTHING
    text = "<0.0001" if p < 0.0001 else f"{p:.4f}"
    return side_of_level(p).replace(" ", "") if text == f"{LEVEL:.4f}" else text


def _seeds_needed(found: Difference) -> str:
    if found.detectable is None:
        return NOTHING
    return f"{found.seeds_needed:,}" if found.seeds_needed else ">10,000"


def _median(median: Median, form: str, time: ArmTime) -> str:
    if median.value is None:
        return "not reached" if 2 * time.num_never > time.num_runs else "not known"
    if median.low is None:
        return f"{median.value:{form}}"
    return f"{median.value:{form}} ({median.low:{form}} to {_shown(median.high, lambda high: format(high, form))})"
