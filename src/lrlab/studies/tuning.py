"""The rate of each arm, found on training images set aside before the study itself is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lrlab.config import TUNING, StudyConfig, TuneConfig
from lrlab.runs import read_info
from lrlab.runs.storage import STUDY, TUNING_RESULT, write_json, write_whole
from lrlab.studies.members import Ended, Member

OF_DIVERGED = 0.0
"""Accuracy that a diverged run counts with: worse than guessing."""


@dataclass(frozen=True)
class Tried:
    """One rate of an arm, and what came of it."""

    lr: float
    accuracies: tuple[float | None, ...]
    """Validation accuracy of each seed; None for a run that diverged."""

    @property
    def mean(self) -> float:
        """Mean over the seeds, a diverged one counted as `OF_DIVERGED`."""
        return fmean(OF_DIVERGED if accuracy is None else accuracy for accuracy in self.accuracies)


@dataclass(frozen=True)
class Cost:
    """What it took."""

    runs: int
    steps: int
    train_seconds: float


@dataclass(frozen=True)
class Choice:
    """The rate that an arm is run with, and why."""

    arm: str
    lr: float
    tried: tuple[Tried, ...]
    """By rate, lowest first."""
    cost: Cost
    remark: str
    """What is to be doubted about it; empty where nothing is."""


def tuning_members(study: StudyConfig, root: Path | str) -> list[Member]:
    """Return the runs by which rates are found, in root/<study>/tuning/<arm>/lr<rate>/seed<k>/; none without [tune]."""
    folder = Path(root) / study.name / TUNING
    return [
        Member(arm, seed, config, folder / arm / f"lr{rate}" / f"seed{seed}", rate)
        for (arm, rate, seed), config in study.tuning_configs().items()
    ]


def lacks(arm: str, ended: Sequence[tuple[Member, Ended]]) -> Ended | None:
    """Return how the runs of an arm end without a rate, if a run by which to find it has no result."""
    lacking = [(member, end) for member, end in ended if member.arm == arm and end.outcome in ("failed", "locked")]
    if not lacking:
        return None
    member, end = lacking[0]
    return Ended(end.outcome, f"its rate could not be tuned, since '{member.name}' is {end.outcome}")


def choose(arm: str, ended: Sequence[tuple[Member, Ended]]) -> Choice:
    """Choose the rate of an arm: the best mean accuracy on the validation images, of equal ones the lowest rate.

    Args:
        arm: its name.
        ended: the runs by which rates are found, all of which have a result.
    """
    of_arm = [(member, end) for member, end in ended if member.arm == arm]
    tried = tuple(
        Tried(rate, tuple(end.accuracy for member, end in of_arm if member.rate == rate))
        for rate in sorted({member.rate for member, _ in of_arm if member.rate is not None})
    )
    best = max(tried, key=lambda one: (one.mean, -one.lr))
    results = [read_info(member.directory)["result"] for member, _ in of_arm]
    cost = Cost(
        len(of_arm),
        sum(int(result["steps"]) for result in results),
        sum(float(result["train_seconds"]) for result in results),
    )
    return Choice(arm, best.lr, tried, cost, _remark(best, tried))


def _remark(best: Tried, tried: Sequence[Tried]) -> str:
    if all(accuracy is None for one in tried for accuracy in one.accuracies):
        return "every run diverged: add lower rates to tune.rates"
    for edge, word in ((tried[0], "lowest"), (tried[-1], "highest")):
        if best is edge:
            return f"this is the {word} rate of the grid, and the best may lie beyond: add another to tune.rates"
    return ""


def mark_tuning(study: StudyConfig, folder: Path, plan: bytes) -> None:
    """Put a copy of the plan beside the rates of each arm, so that a report can be made of them."""
    for arm in study.arms:
        if (folder / TUNING / arm).exists():
            write_whole(folder / TUNING / arm / STUDY, plan)


def write_choices(tune: TuneConfig, choices: Sequence[Choice], folder: Path) -> None:
    """Write what was chosen and what it cost into the study's folder."""
    costs = [choice.cost for choice in choices]
    total = Cost(
        sum(cost.runs for cost in costs), sum(cost.steps for cost in costs), sum(cost.train_seconds for cost in costs)
    )
    write_json(
        folder / TUNING_RESULT,
        {**tune.model_dump(), "arms": {one.arm: _plain(one) for one in choices}, "cost": vars(total)},
    )


def _plain(choice: Choice) -> dict[str, Any]:
    tried = [
        {"lr": one.lr, "mean_validation_accuracy": one.mean, "validation_accuracy": one.accuracies}
        for one in choice.tried
    ]
    return {"lr": choice.lr, "remark": choice.remark, "tried": tried, "cost": vars(choice.cost)}
