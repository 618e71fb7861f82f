"""What a task of Ray's does on its node, wherever that is; no Ray in it."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lrlab import __version__
from lrlab.studies.members import Ended
from lrlab.studies.messages import Begun, Checked, Job, Message, Warned

if TYPE_CHECKING:
    from lrlab.studies.work import DataSets  # loads torch


class ClusterError(RuntimeError):
    """There is no cluster, or not one that can run the study."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Place:
    """Where a task works, which must be the same folder on every node, and what tells it to stop."""

    folder: str
    stop: str
    command: list[str]
    version: str
    num_threads: int
    has_gpu: bool


def do(job: Job, place: Place) -> Iterator[Message]:
    """Do a job in a worker of Ray's, and say what happens; first of all that it has begun."""
    yield Begun()
    said: list[Message] = []
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: said.append(Warned(str(message)))
        for message in _done(job, place):
            while said:  # no `yield from`: Ray sends a value into the generator, which no list takes
                yield said.pop(0)
            yield message
        while said:
            yield said.pop(0)


def _done(job: Job, place: Place) -> Iterator[Message]:
    if problem := _enter(place, only_checks=job.only_checks):
        yield Checked(ClusterError(problem)) if job.only_checks else Ended("failed", problem)
        return
    os.environ.setdefault("OMP_NUM_THREADS", str(place.num_threads))  # read when torch is loaded, the first time
    if not place.has_gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # one that Ray does not know to be used
    from lrlab.studies.work import answer

    if Path(place.stop).exists():  # it had to wait until now
        return
    with closing(answer(job, _data_sets())) as messages:
        for message in messages:
            yield message
            if Path(place.stop).exists():  # on leaving, the run is saved
                return


@cache
def _data_sets() -> DataSets:
    """Of this worker, which does one job after another."""
    from lrlab.studies.work import DataSets

    gc.freeze()  # else each run's garbage is looked for in all of torch, which takes as long as an evaluation
    return DataSets()


def _enter(place: Place, *, only_checks: bool) -> str | None:
    """Go where the study is, as on every node; what is wrong there, if anything is."""
    node = os.uname().nodename
    if place.version != __version__:
        return f"node {node} has lrlab {__version__}, the study {place.version}: install the same version on all nodes."
    for folder in [place.folder] if only_checks else [place.folder, str(Path(place.stop).parent)]:
        if not Path(folder).is_dir():
            return (
                f"node {node} does not have {folder}: start the study, and put its runs, where all nodes can reach it."
            )
    os.chdir(place.folder)  # relative names, of runs and of data, are meant from there
    sys.argv = place.command
    return None
