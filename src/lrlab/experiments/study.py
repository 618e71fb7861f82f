"""A study: runs what is missing of a plan, one run after another, and is safe to repeat."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lrlab.config import ConfigError, DataConfig, RunConfig, StudyConfig, differences, merge, parse_config, to_table
from lrlab.data import ImageData
from lrlab.experiments.build import build_data
from lrlab.experiments.run import Experiment
from lrlab.experiments.session import Event
from lrlab.runs import LockedError, RunError, read_info, read_run
from lrlab.runs.storage import STUDY, storage_errors, write_whole
from lrlab.training import DivergedError


@dataclass(frozen=True)
class Member:
    """One run of a study."""

    arm: str
    seed: int
    config: RunConfig
    directory: Path


@dataclass(frozen=True)
class Started:
    """A member of a study begins."""

    num_steps: int


Outcome = Literal["complete", "diverged", "failed", "locked"]


@dataclass(frozen=True)
class Ended:
    """A member of a study is over, in this call or in an earlier one."""

    outcome: Outcome
    message: str = ""
    """What went wrong, for any outcome but complete."""
    was_there: bool = False
    """Whether it had ended before this call."""
    accuracy: float | None = None
    """On the split that was evaluated, at the end, for a complete one."""


StudyEvent = Started | Event | Ended
"""What a study yields for one of its members."""


def study_members(study: StudyConfig, root: Path) -> list[Member]:
    """Return the runs of a study, which live in root/<study>/<arm>/seed<k>/."""
    folder = root / study.name
    return [Member(arm, seed, config, folder / arm / f"seed{seed}") for (arm, seed), config in study.configs().items()]


def run_study(study: StudyConfig, source: Path, *, root: Path) -> Generator[tuple[Member, StudyEvent], None, None]:
    """Run what is missing of a study, and yield what happens in each run.

    A run that is complete or diverged is left as it is: both are results. One that was cut short is made again
    from its beginning. One that another process is at work on is passed over, so that several processes may
    share a study. A run that fails does not stop the others.

    Args:
        study: the plan.
        source: its file, a copy of which marks the study's folder.
        root: folder of the study's folder.
    Raises: ConfigError or DataError for an arm that cannot be built, before any is run; RunError if a run that is
        there was made with another configuration.
    """
    members = study_members(study, root)
    for member in members:
        _check_same_config(member)
    data_sets = _DataSets()
    if any(_ended_before(member) is None for member in members):
        _build_each_arm(members, data_sets)
    with storage_errors(root):
        (root / study.name).mkdir(parents=True, exist_ok=True)
    write_whole(root / study.name / STUDY, source.read_bytes())
    for member in members:
        ended = _ended_before(member)
        if ended is None:
            ended = yield from _run_member(member, data_sets)
        yield member, ended


class _DataSets:
    """Loads each data set of a study once; the last one is kept, since arms mostly share it."""

    def __init__(self) -> None:
        self._last: tuple[DataConfig, ImageData] | None = None

    def load(self, config: DataConfig) -> ImageData:
        if self._last is None or self._last[0] != config:
            self._last = config, build_data(config)
        return self._last[1]


def _build_each_arm(members: list[Member], data_sets: _DataSets) -> None:
    """Build one experiment of each arm, so that what cannot be built is known before hours of work."""
    first_of_arm = {member.arm: member for member in reversed(members)}
    for member in reversed(first_of_arm.values()):
        try:
            Experiment(member.config, data=data_sets.load(member.config.data))
        except ConfigError as error:
            raise ConfigError(f"arm '{member.arm}': {error}") from error


def _run_member(member: Member, data_sets: _DataSets) -> Generator[tuple[Member, StudyEvent], None, Ended]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # said already, when the arms were built
            experiment = Experiment(member.config, data=data_sets.load(member.config.data))
        yield member, Started(experiment.num_steps)
        for event in experiment.run(member.directory, resumes=True):
            yield member, event
    except LockedError as error:
        return Ended("locked", str(error))
    except DivergedError as error:
        return Ended("diverged", str(error))
    except RuntimeError as error:  # out of memory, say: the next arm may be smaller
        return Ended("failed", f"{type(error).__name__}: {error}")
    except RunError:  # another process has just ended it
        return _ended_before(member) or Ended(
            "failed", f"{member.directory} holds something that is no run of this study"
        )
    return Ended("complete", accuracy=_accuracy(member))


def _ended_before(member: Member) -> Ended | None:
    try:
        status = read_info(member.directory)["status"]
    except RunError:  # not begun, or another process is just making it again
        return None
    if status == "complete":
        return Ended("complete", was_there=True, accuracy=_accuracy(member))
    return Ended("diverged", "in an earlier call", was_there=True) if status == "diverged" else None


def _check_same_config(member: Member) -> None:
    try:
        made = read_run(member.directory)
    except (RunError, ConfigError):  # not begun, or another process is just making it again
        return
    # a key that the run does not have came after it, and what came after is off by default
    changed = differences(merge(to_table(parse_config({})), dict(made.config)), to_table(member.config))
    if changed:
        raise RunError(
            f"{member.directory} was made with another configuration ({'; '.join(changed)}). "
            "Give the study another name, or delete that run."
        )


def _accuracy(member: Member) -> float:
    run = read_run(member.directory)
    return float(run.result[f"{run.evaluated_split}_accuracy"])
