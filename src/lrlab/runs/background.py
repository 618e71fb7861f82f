"""Work that the main thread does not wait for, such as writing to disk."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

MAX_JOBS = 4
"""Jobs that may wait: where the disk is slower than the training, the training waits, and memory does not fill."""

Job = Callable[[], None]


class Background:
    """Does jobs one after another, in the order they came, in a thread of its own.

    An error of a job is raised in the thread that submits, by its next call; no job passes the one that failed, which
    is tried again after that. So a job must leave nothing half done, or be one that can be done twice.
    """

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._error: BaseException | None = None
        self._ends = False
        self._changed = threading.Condition()
        # a daemon: a program that forgets to close it still ends
        self._thread = threading.Thread(target=self._work, name="lrlab-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Add a job; waits while MAX_JOBS are there already.

        Raises: what an earlier job raised; this one is not added then.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or len(self._jobs) < MAX_JOBS)
            self._raise_error()
            self._jobs.append(job)
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait until every job is done.

        Raises: what one of them raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or not self._jobs)
            self._raise_error()

    def close(self) -> None:
        """Wait until every job is done, and end the thread; after an error the jobs that are left are given up.

        Raises: what one of them raised.
        """
        try:
            self.wait()
        finally:
            with self._changed:
                self._ends = True
                self._changed.notify_all()
            self._thread.join()

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            self._changed.notify_all()  # the job is tried again
            raise error

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ends or (self._jobs and not self._error))
                if self._ends:
                    return
                job = self._jobs[0]
            try:
                job()
            except BaseException as error:  # whatever it was, the thread that submits is to know
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
            else:
                with self._changed:
                    self._jobs.popleft()
                    self._changed.notify_all()
