"""From runs to tasks: what may be laid side by side, which arms there are, and in what their settings differ."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from lrlab.compare.measures import CompareError
from lrlab.config import merge, parse_config, to_table
from lrlab.runs import Run, RunError
from lrlab.runs.finding import members_there, read_plan
from lrlab.runs.storage import ELSEWHERE, STUDY, differing_splits, flat

LOOSE: Final = "runs"
"""Name of the task of runs that belong to no study."""
NO_MATTER: Final = ("seed", "device", "data.dir", "telemetry.", "checkpoint.", "evaluate.batch_size", "evaluate.every",
                    "evaluate.mirror", "engine.threads", "engine.keep_memory", "engine.compile")  # fmt: skip
"""Settings that decide where and how quickly a run is made, or what is recorded of it, not what comes of it."""
DATA: Final = ("data.name", "data.test_fraction", "data.validation_fraction")
"""Settings that decide which images an evaluation is of."""
FOUND: Final = ("classes", "image_shape", "num_train", "num_test", "mean", "std")
"""Facts in run.json that tell one folder of images from another."""
SCHEDULE: Final = ("schedule.", "phases.", "layer_rates.", "optimizer.lr", "stop_below_lr")
"""Settings that are the schedule's."""
PRECISION: Final = "engine.precision"
_REMEDY: Final = ", or repeat the others with fp32 or bf16, since auto depends on the machine"

Settings = Mapping[str, str]


@dataclass(frozen=True)
class Task:
    """Runs that may be laid side by side: those of a study, or those that belong to none."""

    name: str
    arms: Mapping[str, Mapping[int, Run]]
    """Arm -> seed -> its run."""

    def settings(self, arm: str) -> Settings:
        """Return the settings of an arm that bear on what comes of it, by dotted name."""
        return settings_of(next(iter(self.arms[arm].values())))

    def differing(self, arms: Iterable[str]) -> list[str]:
        """List the settings in which arms differ."""
        return _differing([self.settings(arm) for arm in arms])


@dataclass(frozen=True)
class Selection:
    """What is compared of a study, beside what its folder holds."""

    study: str
    num_arms: int
    num_arms_there: int
    num_seeds: int
    num_seeds_there: int
    num_runs: int
    num_runs_there: int
    num_tuning_seeds: int
    """Seeds by which the arms' rates were found, by the plan; the fewest of several places, 0 for rates not tuned."""


def selection_of(task: Task) -> Selection | None:
    """Return what a task has of the study that it is of; None of runs that belong to none.

    Raises: StorageError.
    """
    named = {(arm, seed) for arm, members in task.arms.items() for seed in members}
    folders = {run.place.parent.parent for members in task.arms.values() for run in members.values() if run.study}
    if not folders:
        return None
    there, tuned = set(named), set[int]()
    for folder in folders:
        try:
            plan = read_plan(folder / STUDY)
        except RunError:  # which whoever found the runs has warned of
            plan = {}
        there |= members_there(folder, plan)
        tune, planned = plan.get("tune"), plan.get("arms")
        # beside the rates that were tried lies a copy of the plan, of which they are no arms
        is_of_plan = isinstance(planned, Mapping) and not planned.keys().isdisjoint(task.arms)
        seeds = tune.get("seeds") if is_of_plan and isinstance(tune, Mapping) else None
        tuned |= {len(seeds)} if isinstance(seeds, list) else set()
    (arms, seeds_named), (arms_there, seeds_there) = (
        [{member[place] for member in members} for place in (0, 1)] for members in (named, there)
    )
    counts = (len(arms), len(arms_there), len(seeds_named), len(seeds_there), len(named), len(there))
    return Selection(task.name, *counts, min(tuned, default=0))


def is_of_the_schedule(setting: str) -> bool:
    """Return whether a setting is one of the schedule."""
    return setting.removeprefix(f"{ELSEWHERE}.").startswith(SCHEDULE)


def group_runs(runs: Sequence[Run]) -> list[Task]:
    """Group runs by study, arm and seed, in the order in which they come; a run that is named twice counts once.

    A study that was run in two places is one task. Runs that belong to no study are a task together.

    Raises: CompareError if two runs claim one place, if the runs of an arm differ in more than their seed, or if the
        arms of a task were evaluated on different data.
    """
    tasks: dict[str, dict[str, dict[int, Run]]] = {}
    for run in {run.directory.resolve(): run for run in runs}.values():
        seeds = tasks.setdefault(run.study or LOOSE, {}).setdefault(run.arm, {})
        if run.seed in seeds:
            raise CompareError(
                f"{seeds[run.seed].directory} and {run.directory} are both arm '{run.arm}' with seed {run.seed}: "
                "name one of them, or rename a directory."
            )
        seeds[run.seed] = run
    found = [Task(name, arms) for name, arms in tasks.items()]
    for task in found:
        for arm, members in task.arms.items():
            _check_same_settings(arm, members)
        _check_same_data(task)
    return found


def _check_same_settings(arm: str, members: Mapping[int, Run]) -> None:
    first, *others = members.values()
    for other in others:
        ours, theirs = settings_of(first), settings_of(other)
        if differing := _differing([ours, theirs]):
            found = ", ".join(f"{name} ({ours.get(name)} and {theirs.get(name)})" for name in differing)
            raise CompareError(
                f"Arm '{arm}' has several configurations: {first.directory} and {other.directory} differ in {found}. "
                f"Name the runs of one of them{_REMEDY if PRECISION in differing else ''}."
            )


def _check_same_data(task: Task) -> None:
    (first, ours, digests), *others = [
        (f"'{arm}' seed {seed}", _data(run), run.info.get("data", {}).get("digest") or {})
        for arm, members in task.arms.items()
        for seed, run in members.items()
    ]
    for other, theirs, other_digest in others:
        keys = [key for key in ours if key in theirs and not _is_same(ours[key], theirs[key])]
        found = [f"{keys[0]}: {ours[keys[0]]} and {theirs[keys[0]]}"] if keys else []
        if splits := differing_splits(digests, other_digest):
            found.append(f"pixels or labels of the {' and '.join(splits)} images")
        if found:
            raise CompareError(
                f"{first} and {other} were not trained and evaluated on the same images ({found[0]}): their results "
                "cannot be compared."
            )
        digests = {**other_digest, **digests}  # the first run may be from before there were any


def _data(run: Run) -> dict[str, Any]:
    settings, facts = settings_of(run), run.info.get("data", {})
    return {key: settings.get(key) for key in DATA} | {key: facts[key] for key in FOUND if key in facts}


def _is_same(one: Any, other: Any) -> bool:
    """Whether a fact is the same; means and deviations to what another processor may make of them."""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return all(_is_same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-5)
    return bool(one == other)


def settings_of(run: Run) -> Settings:
    """Return the settings of a run that bear on what comes of it, by dotted name."""
    # a key that the run does not have came after it, and what came after is off by default
    complete = merge(_defaults(), dict(run.config))
    settings = {
        name: json.dumps(value, default=str) for name, value in flat(complete) if not name.startswith(NO_MATTER)
    }
    settings[PRECISION] = json.dumps(run.precision)  # auto is another arithmetic on another machine
    # statistics of a rank's part of the batch are other ones than of the whole
    parts = (
        {"ranks": " then ".join(map(str, run.num_ranks_in_turn))}
        if complete["model"]["batchnorm"] == "per_rank"
        else {}
    )
    longer = {"resumed": run.lengthened} if run.lengthened else {}  # no run that was planned for this length
    return settings | parts | longer


@cache
def _defaults() -> dict[str, Any]:
    return to_table(parse_config({}))


def _differing(all_settings: Sequence[Settings]) -> list[str]:
    names = dict.fromkeys(name for settings in all_settings for name in settings)
    return [name for name in names if len({settings.get(name) for settings in all_settings} - _unknown(name)) > 1]


def _unknown(name: str) -> set[str | None]:
    """Values of a setting that stand for none: a run that has not begun says auto."""
    return {json.dumps("auto")} if name == PRECISION else set()
