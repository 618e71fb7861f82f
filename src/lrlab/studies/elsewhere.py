"""What executors share whose members are worked on in other processes, any of which may die."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Sequence

from lrlab.config import ConfigError
from lrlab.studies.members import Died, Ended, Member, MemberEvents, Waiting
from lrlab.studies.messages import Begun, Checked, Job, Message, Warned

MAX_TRIES = 3
"""Processes that may die over one member before it has failed."""

Try = tuple[Job, int]
"""A job, and the number of the try at it, from 1."""


class Elsewhere(ABC):
    """An executor that gives jobs to other processes; a child says how, in `_work`."""

    def check(self, members: Sequence[Member], *, num_to_come: int) -> MemberEvents:
        """Build members without running them."""
        for some in (members[:1], members[1:]):  # the first alone, since it may have to download the data
            jobs = deque((Job(member, only_checks=True), 1) for member in some)
            for member, message in self._work(jobs):
                if isinstance(message, Checked) and message.error is not None:
                    raise message.error
                if isinstance(message, Ended):
                    raise ConfigError(f"arm '{member.arm}' cannot be built: {message.message}.")
                yield member, message if isinstance(message, Died) else Waiting()

    def run(self, members: Sequence[Member]) -> MemberEvents:
        """Run members; one whose process died goes on in another, from its newest checkpoint."""
        jobs = deque((Job(member, only_checks=False), 1) for member in members)
        for member, message in self._work(jobs):
            if not isinstance(message, Begun | Checked | Warned):
                yield member, message

    @abstractmethod
    def _work(self, waiting: deque[Try]) -> Generator[tuple[Member, Message], None, None]:
        """Have jobs done, and yield what is said of them; one that is to be tried again is put back."""


def settle(message: Message, tried: Try, waiting: deque[Try]) -> Message:
    """Put a job back whose process died; return what is then to be said. A warning is given as our own.

    Args:
        message: what was said of it.
        tried: the job, and which try at it this was.
        waiting: jobs to come.
    """
    job, number = tried
    if isinstance(message, Warned):
        warnings.warn(f"{job.member.name}: {message.text}", stacklevel=3)
    if isinstance(message, Died):
        if number == MAX_TRIES:
            return Ended("failed", f"its process died {MAX_TRIES} times, the last time {message.how}")
        waiting.appendleft((job, number + 1))
    return message
