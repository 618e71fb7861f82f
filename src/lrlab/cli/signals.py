"""Ctrl-C, SIGTERM, a closed terminal: a run ends after the update under way, saved; asked twice, at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT

STOPPING = b"lrlab: finishing the current update, then saving and stopping; repeat to stop at once\n"

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """The process was asked to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class StopRequest:
    """Whether the process was asked to end, and by which signal."""

    def __init__(self) -> None:
        self.number: int | None = None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal; the second one ends the process, whatever it is at.

        Not under torchrun, which hands on what the terminal has sent to all, and kills whoever is there after 30 s.
        """
        if "TORCHELASTIC_RUN_ID" in os.environ:
            self.number = self.number or number
            return
        if self.number is not None:
            os._exit(128 + number)
        self.number = number
        with contextlib.suppress(OSError):  # nobody may be reading
            os.write(sys.stderr.fileno(), STOPPING)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within, a first signal is taken note of and does nothing else; whoever iterates over a run looks, and stops.

    In a thread that is not the main one there are none: Python gives signals to that one alone, whose they stay.

    Raises: Stopped on leaving, if there was one.
    """
    request = StopRequest()
    # nohup has the end of the terminal ignored, and means it
    heard = [one for one in _SIGNALS if one != signal.SIGHUP or signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.signal(number, request.receive) for number in heard if _may_be_asked()}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if request.number is not None:
        raise Stopped(request.number)


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """Within, SIGTERM ends at once what there is no run to save of; whoever called the program has its own back."""
    before = signal.signal(signal.SIGTERM, _stop) if _may_be_asked() else None
    try:
        yield
    finally:
        if before is not None:  # else it was not set from Python, which cannot put it back, or not set here
            signal.signal(signal.SIGTERM, before)


def _may_be_asked() -> bool:
    """Whether this thread may have handlers of signals; Python refuses them to all but the main one."""
    return threading.current_thread() is threading.main_thread()


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)
