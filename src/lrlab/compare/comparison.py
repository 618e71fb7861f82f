"""The comparison: runs grouped by arm and paired by seed, with everything that is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from lrlab.compare.choosing import choose_measure, list_measures, read_targets
from lrlab.compare.differences import Difference, LeftOut, judge, measure_difference, spread_of, value_of
from lrlab.compare.measures import CompareError, Measure, OfEvaluations
from lrlab.compare.statistics import holm
from lrlab.compare.tasks import Selection, Task, group_runs, selection_of
from lrlab.compare.times import Median, Profile, Race, Time, median_time, profiles, race, times_to_target
from lrlab.config.parts import unknown
from lrlab.runs import Run


@dataclass(frozen=True)
class Arm:
    """The runs of one arm."""

    task: str
    name: str
    values: Mapping[int, float]
    """Seed -> value at the end, of the complete runs."""
    mean: float | None
    std: float | None
    left_out: Sequence[LeftOut]
    """Runs that have no value, and why."""


@dataclass(frozen=True)
class ArmTime:
    """When the runs of an arm got to the target."""

    task: str
    arm: str
    target: float
    num_runs: int
    num_reached: int
    """Runs that showed it in any evaluation."""
    num_apart: int
    """Those of them that did so first where not all runs were evaluated: when is compared coarsely, or not at all."""
    num_never: int
    """Runs that are over without it, complete or diverged."""
    updates: Median
    seconds: Median


@dataclass(frozen=True)
class PairRace:
    """Which of two arms got to the target first."""

    task: str
    arm: str
    reference: str
    race: Race
    p_holm: float | None


@dataclass(frozen=True)
class Comparison:
    """Runs grouped by arm and paired by seed: differences, intervals, tests."""

    measure: Measure
    selections: Sequence[Selection]
    """What is compared of each study; none for runs that belong to none."""
    control: str | None
    """The arm that all others are compared with; None where every pair is."""
    arms: Sequence[Arm]
    differences: Sequence[Difference]
    num_tested: int
    """How many p values were adjusted for each other."""
    times: Sequence[ArmTime]
    races: Sequence[PairRace]
    profiles: Sequence[Profile]
    """Over the tasks, by the seeds in which the times of all arms are known; none for a single task."""


def compare_runs(
    runs: Sequence[Run], *, control: str | None = None, measure: str | None = None, targets: Sequence[str] = ()
) -> Comparison:
    """Compare the arms of one or several studies.

    Args:
        runs: those of a study, of several, or runs that belong to none.
        control: the arm that all others are compared with; without it, every pair is compared.
        measure: as in a run's result; without it, the accuracy on the images that the runs were evaluated on.
        targets: values of the measure to reach, NUMBER for all studies or STUDY=NUMBER for one.
    Raises: CompareError for what cannot be compared, or for a name that is not known.
    """
    chosen = choose_measure(measure, runs)
    tasks = group_runs(runs)
    pairs = [(task, *pair) for task in tasks for pair in _pairs(task, control, tasks)]
    goals = read_targets(targets, chosen, [task.name for task in tasks])
    _check_seeds(pairs)
    differences = judge([measure_difference(task, arm, reference, chosen) for task, arm, reference in pairs])
    arms = [_arm(task, name, chosen) for task in tasks for name in task.arms]
    if not any(arm.values for arm in arms) and not any(run.status == "diverged" for run in runs):
        there = list_measures([run for run in runs if run.status == "complete"])
        instead = f", or choose a --measure that they have: {there}" if there else ""
        raise CompareError(f"No complete run has a {chosen.name}. Finish the runs{instead}.")
    times = {task.name: _times(task, chosen, goals[task.name]) for task in tasks if task.name in goals}
    selections = [selection for task in tasks if (selection := selection_of(task)) is not None]
    return Comparison(
        chosen,
        selections,
        control,
        arms,
        differences,
        sum(found.p is not None for found in differences),
        [_arm_time(task, arm, goals[task], found) for task, found in times.items() for arm in found],
        _races([pair for pair in pairs if pair[0].name in times], times),
        _profiles(times) if len(times) > 1 else [],
    )


def _pairs(task: Task, control: str | None, tasks: Sequence[Task]) -> list[tuple[str, str]]:
    """Return the pairs to compare, each as (arm, reference)."""
    if len(task.arms) < 2:
        raise CompareError(
            f"'{task.name}' holds one arm, '{next(iter(task.arms))}': there is nothing to compare it with. "
            "Name further runs, or the study's folder."
        )
    if control is None:
        return [(arm, reference) for reference, arm in combinations(task.arms, 2)]
    if control not in task.arms:
        where = f" of '{task.name}'" if len(tasks) > 1 else ""
        raise CompareError(unknown(f"arm{where}", control, task.arms))
    return [(arm, control) for arm in task.arms if arm != control]


def _check_seeds(pairs: Sequence[tuple[Task, str, str]]) -> None:
    if any(task.arms[arm].keys() & task.arms[reference].keys() for task, arm, reference in pairs):
        return
    task, arm, reference = pairs[0]
    seeds = [", ".join(map(str, sorted(task.arms[name]))) for name in (arm, reference)]
    raise CompareError(
        f"No seed in common: '{arm}' was run with {seeds[0]}, '{reference}' with {seeds[1]}. Arms are paired by seed: "
        "run them with the same ones."
    )


def _arm(task: Task, name: str, measure: Measure) -> Arm:
    values, left_out = {}, []
    for seed, run in sorted(task.arms[name].items()):
        value = value_of(run, measure)
        if isinstance(value, str):
            left_out.append(LeftOut(name, seed, value))
        else:
            values[seed] = value
    mean = float(np.mean(list(values.values()))) if values else None
    return Arm(task.name, name, values, mean, spread_of(values), left_out)


Times = Mapping[str, Mapping[int, Time]]
"""Arm -> seed -> when its run got to the target."""


def _times(task: Task, measure: Measure, target: float) -> Times:
    assert isinstance(measure, OfEvaluations), "read_targets refuses others"
    runs = {(arm, seed): run for arm, members in task.arms.items() for seed, run in sorted(members.items())}
    found: dict[str, dict[int, Time]] = {arm: {} for arm in task.arms}
    for (arm, seed), time in zip(runs, times_to_target(list(runs.values()), measure, target), strict=True):
        found[arm][seed] = time
    return found


def _arm_time(task: str, arm: str, target: float, times: Times) -> ArmTime:
    found = list(times[arm].values())
    reached = np.array([time.reached for time in found])
    updates, seconds = (np.array([getattr(time, name) for time in found]) for name in ("updates", "seconds"))
    return ArmTime(
        task,
        arm,
        target,
        num_runs=len(found),
        num_reached=sum(time.shown_at is not None for time in found),
        num_apart=sum(
            time.shown_at is not None and not (time.reached and time.shown_at == time.updates) for time in found
        ),
        num_never=sum(time.is_final and not time.reached for time in found),
        updates=median_time(updates, reached),
        seconds=median_time(seconds, reached),
    )


def _races(pairs: Sequence[tuple[Task, str, str]], times: Mapping[str, Times]) -> list[PairRace]:
    found = []
    for task, arm, reference in pairs:
        ours, theirs = times[task.name][arm], times[task.name][reference]
        seeds = [seed for seed in ours if seed in theirs]
        result = race([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
        found.append(PairRace(task.name, arm, reference, result, None))
    adjusted = iter(holm([pair.race.p for pair in found if pair.race.p is not None]))
    return [replace(pair, p_holm=float(next(adjusted))) if pair.race.p is not None else pair for pair in found]


def _profiles(times: Mapping[str, Times]) -> list[Profile]:
    """Lay the arms that all tasks have over each other, on the seeds of which all of them are known."""
    first, *others = times.values()
    arms = [arm for arm in first if all(arm in other for other in others)]
    if len(arms) < 2:
        return []
    updates: dict[str, dict[str, npt.NDArray[np.float64]]] = {}
    for task, found in times.items():
        # a run that was cut short, or looked at where others were not, is not one that never gets there
        seeds = [
            seed for seed in found[arms[0]] if all(seed in found[arm] and found[arm][seed].is_final for arm in arms)
        ]
        if not seeds:
            return []
        updates[task] = {arm: np.array([_updates(found[arm][seed]) for seed in seeds]) for arm in arms}
    return profiles(updates)


def _updates(time: Time) -> float:
    return time.updates if time.reached else np.inf
