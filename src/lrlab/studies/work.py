"""The work on one member: it is built, run, and what happens is said. This is where a study loads torch."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import asdict

from lrlab.config import ConfigError, DataConfig, to_table
from lrlab.config.parse import without_harmless
from lrlab.data import DataError, ImageData
from lrlab.experiments import Experiment, build_data
from lrlab.experiments.facts import check_same_data
from lrlab.experiments.pace import Pace
from lrlab.runs import LockedError, Run, RunError, read_run
from lrlab.runs.storage import INFO
from lrlab.studies.members import (
    Ended,
    Member,
    Progress,
    StudyEvent,
    check_same_config,
    ended_before,
    final_accuracy,
)
from lrlab.studies.messages import Checked, Job, Message
from lrlab.training import DivergedError


class DataSets:
    """Loads each data set once for the runs of a process; the last one is kept, since arms mostly share it."""

    def __init__(self) -> None:
        self._last: tuple[DataConfig, ImageData] | None = None

    def load(self, config: DataConfig) -> ImageData:
        """Return the images that a configuration names."""
        if self._last is None or self._last[0] != config:
            self._last = config, build_data(config)
        return self._last[1]


def check_member(member: Member, data_sets: DataSets) -> None:
    """Build a member without running it, and see that the runs which are there already have seen the same images.

    Raises: ConfigError, DataError, EngineError.
    """
    try:
        experiment = Experiment(member.config, data=data_sets.load(member.config.data))
    except ConfigError as error:
        raise ConfigError(f"arm '{member.arm}': {error}") from error
    for path in sorted(member.directory.parents[1].glob(f"*/seed*/{INFO}")):
        with suppress(RunError, ConfigError):  # another process may be just making it
            made = read_run(path.parent)
            if "data" in made.info and _is_of_same_data(made, member):
                _check_same_images(made, experiment)
                return  # one will do: what is there was held against another one before


def _is_of_same_data(made: Run, member: Member) -> bool:
    """Whether a run was to see the images of a member: one of its arm wherever they lay, of another from one place."""
    ours, theirs = ({"data": data} for data in (to_table(member.config)["data"], made.config["data"]))
    is_of_arm = member.rate is not None or made.directory.parent == member.directory.parent
    return without_harmless(ours) == without_harmless(theirs) if is_of_arm else ours == theirs


def _check_same_images(made: Run, experiment: Experiment) -> None:
    try:
        check_same_data(experiment.data, made.info)
    except DataError as error:
        raise DataError(f"{made.directory}: {error} Or give the study another name.") from error


def answer(job: Job, data_sets: DataSets) -> Generator[Message, None, None]:
    """Do a job for a study in another process, and yield what is to be said; the last is a `Checked` or an `Ended`."""
    if not job.only_checks:
        yield from run_member(job.member, data_sets)
        return
    try:
        check_member(job.member, data_sets)
        yield Checked(None)
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
        yield Checked(error)


def run_member(member: Member, data_sets: DataSets) -> Generator[StudyEvent, None, None]:
    """Run a member, from its newest checkpoint if it has one, and yield what happens; the last is an `Ended`.

    What goes wrong with this run alone, torch's RuntimeErrors too, is how it ended; any other error is our mistake,
    and raised.
    """
    try:
        check_same_config(member)  # once more: another process may have made it since, by another plan
    except RunError as error:
        yield Ended("failed", str(error))
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # said already, when the arms were checked
            experiment = Experiment(member.config, data=data_sets.load(member.config.data))
        pace = Pace(batch_size=member.config.batch_size)
        with closing(experiment.run(member.directory, resumes=True)) as events:
            for event in events:
                if (look := pace.look(event)) is not None:
                    yield Progress(num_steps=experiment.num_steps, **asdict(look))
    except LockedError as error:
        ended = Ended("locked", str(error))
    except DivergedError as error:
        ended = Ended("diverged", str(error).removeprefix("diverged: "))
    except RunError as error:  # another process has just ended it, or it cannot go on
        ended = ended_before(member) or Ended("failed", str(error))
    except Exception as error:
        if not isinstance(error, RuntimeError) and not hasattr(error, "exit_code"):
            raise
        ended = Ended("failed", f"{type(error).__name__}: {error}")  # out of memory, say: the next arm may be smaller
    else:
        ended = Ended("complete", accuracy=final_accuracy(member))
    yield ended
