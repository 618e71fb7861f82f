"""The standard streams: one may be closed, full, or without the letters of a name, and none of that costs the work."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


@contextlib.contextmanager
def unfailing_streams() -> Iterator[None]:
    """Within, nothing said on stderr fails, and stdout shows as an escape what its encoding does not have.

    A stdout that takes nothing more still fails: who pipes it to a reader wants the program to end with the reader.
    """
    _occupy_closed()
    before = sys.stderr
    with contextlib.ExitStack() as stack:
        # it is None where it was closed at the start
        shown = before if before is not None else stack.enter_context(Path(os.devnull).open("w"))
        sys.stderr = _Unfailing(shown)
        try:
            with _shown_otherwise(sys.stdout):
                yield
        finally:
            sys.stderr = before
            try:
                shown.flush()
            except (OSError, ValueError):
                discard(shown)


def discard(stream: TextIO | None) -> None:
    """Lead a stream nowhere, so that Python, which flushes it at the end, meets no error there."""
    with contextlib.suppress(OSError, ValueError):  # it is no file, or closed
        if stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Unfailing:
    """A stream that leaves out what it cannot write: its disk is full, its terminal closed, nobody reads it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if it can be; what it says is worth no run."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if it can be."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _occupy_closed() -> None:
    """Open nothing in place of standard streams that are closed.

    Else the next file, say a checkpoint, would have the number of one, and hold what libraries in C write to stderr.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it has the lowest number that is free


@contextlib.contextmanager
def _shown_otherwise(stream: object) -> Iterator[None]:
    """Within, what a stream's encoding does not have is written as an escape: a name is no reason to end a training."""
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    errors = stream.errors  # strict, or in the C locale surrogateescape, which has no letters but ASCII's either
    gone = contextlib.suppress(OSError, ValueError)  # it is closed, or was turned into another one meanwhile
    with gone:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with gone:
            stream.reconfigure(errors=errors)
