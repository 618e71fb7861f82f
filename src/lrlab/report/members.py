"""The runs of a report as every part of it knows them: read once each, and without what only one part needs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lrlab.compare.tasks import Settings, settings_of
from lrlab.report.curves import Curve
from lrlab.runs import Run

MOST_DECISIONS: Final = 100
"""Decisions of a run that a report lists, and decays whose evidence it shows: the first of them."""


@dataclass(frozen=True)
class Decays:
    """The decays of a run."""

    moved: Sequence[int]
    """Updates at which a rate fell."""
    at_floor: Sequence[int]
    """Updates at which it did not, being at its floor already."""
    first: Sequence[Mapping[str, Any]]
    """The decisions for the first of them, whether a rate moved or not."""


@dataclass(frozen=True, eq=False)
class Member:
    """A run beside others."""

    run: Run
    arm: str
    accuracy: Curve
    """At each evaluation."""
    last: Mapping[str, Any]
    """The last evaluation; empty if there was none."""
    num_decisions: int
    decisions: Sequence[Mapping[str, Any]]
    """The first of them."""
    decays: Decays

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.run.seed

    @property
    def status(self) -> str:
        """One of running, complete, preempted, diverged, failed."""
        return self.run.status

    @property
    def label(self) -> str:
        """What it is called where its arm alone would not do."""
        return f"{self.arm}, seed {self.seed}"

    @property
    def is_counted(self) -> bool:
        """Whether the run has come to its end and stands for its arm: no figure of an arm holds any other."""
        return self.status == "complete" and bool(self.last)

    @property
    def has_matrices(self) -> bool:
        """Whether its evaluations count what each class was taken for; those of a run made elsewhere do not."""
        return "confusion" in self.last

    @property
    def mirror_accuracy(self) -> float | None:
        """The last accuracy with logits averaged over mirror images; None if the run has none."""
        mirror = self.last.get("mirror")
        return float(mirror["accuracy"]) if mirror else None


def read_members(runs: Iterable[Run]) -> list[Member]:
    """Read runs, each with the name of its arm (see `arm_names`)."""
    runs = list(runs)
    return [_read_member(run, name) for run, name in zip(runs, arm_names(runs), strict=True)]


def arm_names(runs: Sequence[Run]) -> list[str]:
    """Name the arm of each run so that no two things have one name.

    That is the arm of its study, with the study's name before it where there are several, or for a run of no study its
    directory's name without its -seed<k>. Where two runs of one name have the same seed, or such directories differ in
    more than the seed, they are named by their paths.
    """
    has_several = len({run.study for run in runs}) > 1
    names = [f"{run.study}/{run.arm}" if has_several and run.study else run.arm for run in runs]
    seeds = Counter((name, run.seed) for name, run in zip(names, runs, strict=True))
    settings: dict[str, list[Settings]] = {}
    for name, run in zip(names, runs, strict=True):
        if run.study is None:
            settings.setdefault(name, []).append(settings_of(run))
    unclear = {name for (name, _), number in seeds.items() if number > 1}
    unclear |= {name for name, found in settings.items() if any(one != found[0] for one in found)}
    return [_path_name(run) if name in unclear else name for name, run in zip(names, runs, strict=True)]


def _path_name(run: Run) -> str:
    return str(run.directory if run.study is None else run.directory.parent)


def by_arm(members: Iterable[Member]) -> dict[str, list[Member]]:
    """Group runs by their arm, in the order in which the arms come."""
    arms: dict[str, list[Member]] = {}
    for member in members:
        arms.setdefault(member.arm, []).append(member)
    return arms


def read_evaluations(run: Run) -> list[dict[str, Any]]:
    """Return the evaluations of the run's split, oldest first."""
    return [evaluation for evaluation in run.evaluations() if evaluation["split"] == run.evaluated_split]


def split_name(members: Iterable[Member]) -> str:
    """Return the split that all runs were evaluated on, in words: test, validation, or both."""
    return " or ".join(sorted({member.run.evaluated_split for member in members}))


def has_moved(decision: Mapping[str, Any]) -> bool:
    """Whether a decision changed a rate; a decay at the floor does not, which 0.001 * 0.1^3 misses by a last digit."""
    pairs = zip(decision["lr_before"], decision["lr_after"], strict=True)
    return not all(math.isclose(before, after, rel_tol=1e-9) for before, after in pairs)


def _read_member(run: Run, arm: str) -> Member:
    evaluations, decisions = read_evaluations(run), run.decisions()
    accuracy = Curve(
        np.array([float(evaluation["step"]) for evaluation in evaluations]),
        np.array([float(evaluation["accuracy"]) for evaluation in evaluations]),
    )
    decays = [decision for decision in decisions if decision["decision"] == "decay"]
    return Member(
        run,
        arm,
        accuracy,
        evaluations[-1] if evaluations else {},
        len(decisions),
        decisions[:MOST_DECISIONS],
        Decays(
            [int(decay["step"]) for decay in decays if has_moved(decay)],
            [int(decay["step"]) for decay in decays if not has_moved(decay)],
            decays[:MOST_DECISIONS],
        ),
    )
