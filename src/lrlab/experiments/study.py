"""A study: runs what is missing of a plan, one run after another, and is safe to repeat."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lrlab.config import RunConfig, StudyConfig, differences, to_table
from lrlab.data import ImageData
from lrlab.experiments.build import build_data
from lrlab.experiments.run import Event, Experiment
from lrlab.runs import LockedError, RunError, lock_run, read_run
from lrlab.runs.storage import INFO, STUDY, storage_errors, write_whole
from lrlab.training import DivergedError


@dataclass(frozen=True)
class Member:
    """One run of a study."""

    arm: str
    seed: int
    config: RunConfig
    directory: Path


Outcome = Literal["complete", "diverged", "failed", "locked"]


@dataclass(frozen=True)
class Ended:
    """A member of a study is over, in this call or in an earlier one."""

    outcome: Outcome
    message: str = ""
    """What went wrong, for any outcome but complete."""
    was_there: bool = False
    """Whether it had ended before this call."""
    test_accuracy: float | None = None
    """At the end, for a complete one."""


def study_members(study: StudyConfig, root: Path) -> list[Member]:
    """Return the runs of a study, which live in root/<study>/<arm>/seed<k>/."""
    folder = root / study.name
    return [Member(arm, seed, config, folder / arm / f"seed{seed}") for (arm, seed), config in study.configs().items()]


def run_study(study: StudyConfig, source: Path, *, root: Path) -> Iterator[tuple[Member, Event | Ended]]:
    """Run what is missing of a study, and yield what happens in each run.

    A run that is complete or diverged is left as it is: both are results. One that was cut short is made again
    from its beginning. One that another process is at work on is passed over, so that several processes may
    share a study. A run that fails does not stop the others.

    Args:
        study: the plan.
        source: its file, a copy of which marks the study's folder.
        root: folder of the study's folder.
    Raises: RunError if a run that is there was made with another configuration.
    """
    members = study_members(study, root)
    for member in members:
        _check_same_config(member)
    with storage_errors(root):
        (root / study.name).mkdir(parents=True, exist_ok=True)
    write_whole(root / study.name / STUDY, source.read_bytes())
    loaded: tuple[object, ImageData] | None = None
    for member in members:
        try:
            ended = _claim(member)
            if ended is None:
                if loaded is None or loaded[0] != member.config.data:
                    loaded = (member.config.data, build_data(member.config.data))
                for event in Experiment(member.config, data=loaded[1]).run(member.directory):
                    yield member, event
                ended = Ended("complete", test_accuracy=_accuracy(member))
        except LockedError as error:
            ended = Ended("locked", str(error))
        except DivergedError as error:
            ended = Ended("diverged", str(error))
        except RuntimeError as error:  # out of memory, say: the next arm may be smaller
            ended = Ended("failed", f"{type(error).__name__}: {error}")
        yield member, ended


def _check_same_config(member: Member) -> None:
    if not (member.directory / INFO).exists():
        return
    changed = differences(dict(read_run(member.directory).config), to_table(member.config))
    if changed:
        raise RunError(
            f"{member.directory} was made with another configuration ({'; '.join(changed)}). "
            "Give the study another name, or delete that run."
        )


def _claim(member: Member) -> Ended | None:
    """Return how a member has ended; if it has not, delete what a run that was cut short has left.

    Raises: LockedError if a process is at work on it.
    """
    if not member.directory.exists():
        return None
    with lock_run(member.directory):
        if (member.directory / INFO).exists():
            status = read_run(member.directory).status
            if status == "complete":
                return Ended("complete", was_there=True, test_accuracy=_accuracy(member))
            if status == "diverged":
                return Ended("diverged", "diverged in an earlier call", was_there=True)
        with storage_errors(member.directory):
            shutil.rmtree(member.directory)
    return None


def _accuracy(member: Member) -> float:
    return float(read_run(member.directory).result["test_accuracy"])
