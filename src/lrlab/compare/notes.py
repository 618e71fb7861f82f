"""What bears on all of a comparison: what was chosen, what was not timed, what so many seeds are too few for."""

from __future__ import annotations

from lrlab.compare.comparison import Comparison
from lrlab.compare.sentences import FEW_SEEDS
from lrlab.compare.statistics import LEVEL, NUM_RESAMPLES, is_sign_flip_exact, sign_flip_floor, spread_factors
from lrlab.compare.tasks import Selection
from lrlab.compare.times import FEWEST_FOR_INTERVAL


def too_small_for(num_seeds: int, num_tested: int) -> list[str]:
    """Say what so many paired seeds are too few for.

    Args:
        num_seeds: of a pair.
        num_tested: pairs whose p values are adjusted for each other.
    """
    if num_seeds < 2:
        return ["an interval or a test of any kind"] if num_seeds else []
    limits = []
    floor, num_pairs = sign_flip_floor(num_seeds), max(1, num_tested)
    if floor * num_pairs > LEVEL:
        among = f", {min(1.0, floor * num_pairs):.2g} among {num_pairs} pairs" * (num_pairs > 1)
        how = f"2/2^{num_seeds}" if is_sign_flip_exact(num_seeds) else f"that of {NUM_RESAMPLES:,} random flips"
        limits.append(f"the sign-flip test, whose p cannot fall below {how} = {floor:.2g}{among}")
    if num_seeds < FEW_SEEDS:
        limits.append("seeing whether the differences are anything like normally distributed, as the interval assumes")
    if num_seeds == 2:
        limits.append("an effect size")
    if num_seeds < 2 * FEW_SEEDS:
        low, high = spread_factors(num_seeds)
        limits.append(
            "estimating their spread, on which the detectable difference and the seeds needed both rest: the true "
            f"spread may be {low:.2g} to {high:.2g} times the measured one"
        )
    return limits


def notes(comparison: Comparison) -> list[str]:
    """Say what else bears on all of it: what was chosen, what was not timed, what so many seeds are too few for."""
    chosen = [note for selection in comparison.selections for note in _on_selection(selection)]
    return [*chosen, *_on_times(comparison), *_on_seeds(comparison)]


def _on_selection(selection: Selection) -> list[str]:
    found = []
    parts = [
        f"{number} of its {there} {what}"
        for number, there, what in (
            (selection.num_arms, selection.num_arms_there, "arms"),
            (selection.num_seeds, selection.num_seeds_there, "seeds"),
        )
        if number < there
    ]
    if not parts and selection.num_runs < selection.num_runs_there:
        parts = [f"{selection.num_runs} of its {selection.num_runs_there} runs"]
    if parts:
        found.append(
            f"Of {selection.study} only {' and '.join(parts)} are compared: p is adjusted for these alone, and means "
            "nothing if they were chosen by their results."
        )
    if selection.num_tuning_seeds:
        seeds = f"{selection.num_tuning_seeds} seed{'s' * (selection.num_tuning_seeds > 1)}"
        found.append(
            f"The rates of {selection.study} were chosen by {seeds} each: intervals and p are of the arms at these "
            "rates, and do not include the luck of that choice."
        )
    return found


def _on_times(comparison: Comparison) -> list[str]:
    found = []
    tasks = list(dict.fromkeys(time.task for time in comparison.times))
    names = {(time.task, time.arm): f"{time.task}: " * (len(tasks) > 1) + time.arm for time in comparison.times}
    if apart := [f"{names[time.task, time.arm]} ({time.num_apart})" for time in comparison.times if time.num_apart]:
        found.append(
            f"Runs of {', '.join(apart)} first show the target at updates at which not all runs were evaluated, so "
            "their times are compared coarsely, or not at all. Give all runs the same evaluate.every, and lengths "
            "that it divides; a run that a rule ends is evaluated at its end, where others are not."
        )
    if few := [
        names[time.task, time.arm]
        for time in comparison.times
        if time.num_runs < FEWEST_FOR_INTERVAL and time.updates.value is not None
    ]:
        found.append(f"The median times of {', '.join(few)} have no interval, which needs {FEWEST_FOR_INTERVAL} runs.")
    if any(profile.low is not None for profile in comparison.profiles):
        found.append(
            "A score is held against the quickest arm of each task, which is the quickest by luck too: in more than "
            "half of the studies of three arms that do not differ, the interval of at least one lies below 1. Whether "
            "arms differ, the races say."
        )
    if len(tasks) > 1 and not comparison.profiles:
        found.append(
            "There is no profile over the studies: it needs two arms that all of them have, and seeds in which the "
            "times of all arms are known."
        )
    return found


def _on_seeds(comparison: Comparison) -> list[str]:
    numbers = sorted({found.num_seeds for found in comparison.differences})
    found = {number: too_small_for(number, comparison.num_tested) for number in numbers}
    return [
        f"{number} seed{'s' * (number > 1)} {'are' if number > 1 else 'is'} too few for: {'; '.join(limits)}."
        for number, limits in found.items()
        if limits
    ]
