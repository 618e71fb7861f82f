"""Runs members in processes of their own on this machine, any of which may die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait

from lrlab.runs.environment import num_usable_cpus
from lrlab.studies.elsewhere import Elsewhere, Try, settle
from lrlab.studies.members import Died, Ended, Member, MemberEvents
from lrlab.studies.messages import Checked, Job, Message

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from lrlab.studies.worker import main; main(int(sys.argv[2]), json.loads(sys.argv[3]))"
)
"""Not `-m`, which would look for modules in the working directory first; a worker finds what this process finds."""


class Processes(Elsewhere):
    """An executor of long-lived workers, each of which loads torch once, and a data set once."""

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._workers: list[_Worker] = []
        self._under_way: dict[_Worker, Try] = {}

    def check(self, members: Sequence[Member], *, num_to_come: int) -> MemberEvents:
        """Build members without running them, while all workers start that the runs to come have use for."""
        while len(self._workers) < min(self._num_workers, num_to_come):
            self._start()
        yield from super().check(members, num_to_come=num_to_come)

    def close(self) -> None:
        """Have the workers save what is under way, and wait for them; what they warn of by the way is said."""
        for worker in self._workers:
            worker.tell(None)
        for worker in self._workers:
            while (message := worker.hear()) is not None:
                if worker in self._under_way:
                    settle(message, self._under_way[worker], deque())
            worker.wait()
        self._workers.clear()
        self._under_way.clear()

    def _work(self, waiting: deque[Try]) -> Generator[tuple[Member, Message], None, None]:
        under_way = self._under_way
        while waiting or under_way:
            while waiting and (worker := self._free(under_way)) is not None:
                under_way[worker] = waiting.popleft()
                worker.tell(under_way[worker][0])
            ready = wait([worker.connection for worker in under_way])
            for worker in [worker for worker in under_way if worker.connection in ready]:
                tried, message = under_way[worker], worker.hear()
                if message is None:
                    self._workers.remove(worker)
                    message = Died(worker.wait())
                if isinstance(message, Died | Ended | Checked):
                    del under_way[worker]
                yield tried[0].member, settle(message, tried, waiting)

    def _free(self, under_way: dict[_Worker, Try]) -> _Worker | None:
        for worker in self._workers:
            if worker not in under_way:
                return worker
        return self._start() if len(self._workers) < self._num_workers else None

    def _start(self) -> _Worker:
        self._workers.append(_Worker(num_threads=max(1, num_usable_cpus() // self._num_workers)))
        return self._workers[-1]


class _Worker:
    """A process that does one job after another.

    It ends when the other end of its connection is gone, so that none outlives this process, however that ends.
    """

    def __init__(self, *, num_threads: int) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, json.dumps(sys.path), str(number), json.dumps(sys.argv)],
                pass_fds=[number],
                env={"OMP_NUM_THREADS": str(num_threads), **os.environ},  # read when torch is loaded
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # ours is for what the command prints
            )

    def tell(self, job: Job | None) -> None:
        """Give it a job, or ask it to end."""
        with suppress(OSError):  # it has died, which is noticed when it is listened to
            self.connection.send(job)

    def hear(self) -> Message | None:
        """Return what it says next; None if it has died."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            return None
        return message

    def wait(self) -> str:
        """Wait for its end, and say how that came."""
        while self.hear() is not None:
            pass  # it may have much to say before it notices that it is to end
        self.connection.close()
        code = self._process.wait()
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
