"""One run from the command line: made in this process alone, or by all that torchrun started."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # help loads no pydantic
    from lrlab.config import RunConfig

RUNS = Path("runs")
"""Where runs are made that are not told where."""

SHARED_BY_RANKS = ("train", "resume")
"""Verbs that several processes do together."""


def rank() -> int:
    """This process among those that torchrun started for one run, from 0."""
    return int(os.environ.get("RANK", 0)) if num_ranks() > 1 else 0


def num_ranks() -> int:
    """How many processes torchrun started for one run."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_restarted(directory: Path) -> bool:
    """Whether torchrun starts this process again, to go on with the run in a directory that it began there itself."""
    from lrlab.runs import RunError, read_info
    from lrlab.runs.environment import describe_environment

    launch = describe_environment().get("torchrun", "none")
    count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        began = read_info(directory)["environment"].get("torchrun")
    except RunError:  # it may have ended before the first word of it
        return count != "0"
    return bool(launch == began) if launch != "none" else count != "0"


def check_place(run: Path | None) -> None:
    """Check that a run which torchrun may start again will be found then.

    Raises: ConfigError.
    """
    from lrlab.config import ConfigError

    if run is None and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0:
        raise ConfigError(
            "torchrun --max-restarts: a restarted process must know which run to resume. Name its directory with "
            "--run DIR."
        )


def make_run(config: RunConfig, directory: Path | None, *, resumes: bool, json: bool) -> int:
    """Make a run, or go on with one, and show it to its end; None: in a new directory, named after what the run is."""
    from lrlab.cli.display import Display
    from lrlab.cli.options import new_directory, run_name
    from lrlab.cli.signals import Stopped
    from lrlab.experiments import DivergedError, Experiment, joined

    with joined(device=config.device) as ranks:
        display = Display(json=json, quiet=ranks.rank > 0)
        with ranks.together():
            experiment = Experiment(config, ranks=ranks)
        if directory is None:  # only now, so that what cannot be run leaves nothing behind
            with ranks.together():
                made = new_directory(RUNS, run_name(config)) if ranks.rank == 0 else None
            directory = Path(ranks.first(str(made)))
        display.say(experiment.summary())
        display.say(f"run: {directory}")
        ends_alike = ranks.size == 1
        try:
            display.follow(experiment, directory, resumes=resumes)
            ends_alike = True
        except (DivergedError, Stopped):
            ends_alike = True
            raise
        finally:
            if ends_alike and experiment.status is not None:  # there is a run, complete or not
                if ranks.rank == 0:
                    display.conclude(directory)
                ranks.meet()  # torchrun ends them all as soon as one ends otherwise than well
    return 0
