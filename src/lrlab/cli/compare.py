"""What a person reads of a comparison: tables, then a sentence for each pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lrlab.cli.output import Output
from lrlab.compare import (
    Arm,
    Comparison,
    Difference,
    Measure,
    Median,
    notes,
    race_sentence,
    sentence,
)

NOTHING = "-"


def show_comparison(output: Output, comparison: Comparison) -> None:
    """Print what was found, and what it does not show."""
    tasks = list(dict.fromkeys(arm.task for arm in comparison.arms))
    for task in tasks:
        if len(tasks) > 1:
            output.say(f"\n{task}")
        _show_arms(output, [arm for arm in comparison.arms if arm.task == task], comparison.measure)
        _show_pairs(output, [found for found in comparison.differences if found.task == task], comparison)
        _show_times(output, task, comparison)
    _show_profiles(output, comparison)
    output.say("")
    sentences = [sentence(found, comparison) for found in comparison.differences]
    for text in [*sentences, *(race_sentence(found, comparison) for found in comparison.races), *notes(comparison)]:
        output.say_wrapped(f"{text}\n")


def _show_arms(output: Output, arms: Sequence[Arm], measure: Measure) -> None:
    unit = ", %" if measure.is_accuracy else ""
    rows = [
        (
            arm.name,
            str(len(arm.values)),
            _shown(arm.mean, measure.value_text),
            _shown(arm.std, measure.size_text),
            _left_out(arm) or "none",
        )
        for arm in arms
    ]
    output.say("")
    output.table(("arm", "n", f"{measure.words}{unit}", "std", "seeds not counted"), rows)


def _left_out(arm: Arm) -> str:
    reasons: dict[str, list[str]] = {}
    for out in arm.left_out:
        reasons.setdefault(out.reason, []).append(str(out.seed))
    return "; ".join(f"{reason}: {', '.join(seeds)}" for reason, seeds in reasons.items())


def _show_pairs(output: Output, pairs: Sequence[Difference], comparison: Comparison) -> None:
    measure = comparison.measure
    adjusted = comparison.num_tested > 1
    rows = [
        (
            f"{found.arm} - {found.reference}",
            str(found.num_seeds),
            _shown(found.mean, measure.difference_text),
            _interval(found.interval, measure),
            _p(found.p),
            *([_p(found.p_holm)] if adjusted else []),
            f"{found.num_above}/{found.num_seeds}",
        )
        for found in pairs
    ]
    output.say("")
    holm = [f"Holm, {comparison.num_tested}"] if adjusted else []
    output.table(
        ("difference" + measure.unit.replace(" ", ", "), "n", "mean", "95 % interval", "p", *holm, "above"), rows
    )
    rows = [
        (
            f"{found.arm} - {found.reference}",
            _shown(found.effect_size, lambda size: f"{size:+.2f}"),
            _interval(found.bootstrap, measure),
            _p(found.p_sign_flip),
            _shown(found.detectable, measure.size_text),
            _seeds_needed(found),
        )
        for found in pairs
    ]
    output.say("")
    output.table(
        ("the same", "effect\nsize", "bootstrap", "p of sign\nflips", "smallest\nshown", "seeds\nneeded"), rows
    )


def _show_times(output: Output, task: str, comparison: Comparison) -> None:
    times = [time for time in comparison.times if time.task == task]
    if not times:
        return
    rows = [
        (
            time.arm,
            f"{time.num_reached} of {time.num_runs}",
            _median(time.updates, ",.0f"),
            _median(time.seconds, ",.1f"),
        )
        for time in times
    ]
    sign = ">=" if comparison.measure.is_accuracy else "<="
    header = (f"{comparison.measure.name} {sign} {times[0].target:g}", "reached", "updates", "seconds of training")
    output.say("")
    output.table(header, rows)


def _show_profiles(output: Output, comparison: Comparison) -> None:
    if not comparison.profiles:
        return
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
    output.say("")
    output.table(("updates to the target, over the quickest", "score", *tasks), rows)


def _shown(value: Any, write: Callable[[Any], str]) -> str:
    return NOTHING if value is None else write(value)


def _interval(interval: tuple[float, float] | None, measure: Measure) -> str:
    return NOTHING if interval is None else " to ".join(map(measure.difference_text, interval))


def _p(p: float | None) -> str:
    return NOTHING if p is None else "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _seeds_needed(found: Difference) -> str:
    if found.detectable is None:
        return NOTHING
    return f"{found.seeds_needed:,}" if found.seeds_needed else ">10,000"


def _median(median: Median, form: str) -> str:
    if median.value is None:
        return "not reached"
    low, high = (_shown(end, lambda end: format(end, form)) for end in (median.low, median.high))
    return f"{median.value:{form}} ({low} to {high})"
