"""A process that runs members for a study in another one, and ends with it."""

from __future__ import annotations

import gc
import signal
import sys
import warnings
from contextlib import closing
from multiprocessing.connection import Connection
from types import FrameType

from lrlab.studies.messages import Job, Message, Warned


def main(descriptor: int, command: list[str]) -> None:
    """Do jobs until there is none left, or nobody who gives them.

    Args:
        descriptor: of the connection to the study.
        command: of the study, which its runs record as theirs.
    """
    sys.argv = command
    study = _Study(Connection(descriptor))
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all of us; the study tells
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, study.receive)
    warnings.showwarning = lambda message, *_, **__: study.tell(Warned(str(message)))
    from lrlab.studies.work import DataSets, answer  # loads torch, with a connection already there

    gc.freeze()  # else each run's garbage is looked for in all of torch, which takes as long as an evaluation
    data_sets = DataSets()
    while (job := study.next_job()) is not None:
        with closing(answer(job, data_sets)) as messages:
            for message in messages:
                if study.wants_no_more():  # on leaving, the run is saved
                    return
                study.tell(message)


class _Study:
    """The process that this one works for, as far as it is seen from here."""

    def __init__(self, connection: Connection[Message, Job | None]) -> None:
        self._connection = connection
        self._is_over = False
        self._is_busy = False

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Take SIGTERM: a run under way is saved first."""
        if not self._is_busy:
            sys.exit(128 + number)
        self._is_over = True

    def next_job(self) -> Job | None:
        """Wait for a job; None if there is to be no other."""
        self._is_busy = False
        try:
            job = None if self._is_over else self._connection.recv()
        except (EOFError, OSError):
            return None
        self._is_busy = job is not None
        return job

    def tell(self, message: Message) -> None:
        """Say something, to nobody if the study is gone."""
        try:
            self._connection.send(message)
        except OSError:
            self._is_over = True

    def wants_no_more(self) -> bool:
        """Whether the run under way is to be left: while one is, nothing comes but the end."""
        return self._is_over or self._connection.poll()
