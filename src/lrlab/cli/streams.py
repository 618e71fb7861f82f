"""The standard streams: one may be closed, full, or without the letters of a name, and none of that costs the work."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO


@contextlib.contextmanager
def unfailing_streams() -> Iterator[None]:
    """Within, nothing said on stderr fails, and stdout shows as an escape what its encoding does not have.

    A stdout that takes nothing more still fails, unless it is a terminal that was closed: who pipes it to a reader
    wants the program to end with the reader.
    """
    _occupy_closed()
    out, err = sys.stdout, sys.stderr  # None where they were closed at the start
    with Path(os.devnull).open("w") as nowhere:
        # a call within another one, in a thread say, takes the streams as they are
        told = err if isinstance(err, _Unfailing) else _Unfailing(nowhere if err is None else err, lambda error: True)
        shown = out if out is None or isinstance(out, _Unfailing) else _Unfailing(out, _is_terminal_gone)
        sys.stdout, sys.stderr = shown, told
        try:
            with _shown_otherwise(out):
                yield
        finally:
            if sys.stdout is shown:
                sys.stdout = out
            if sys.stderr is told:
                sys.stderr = err
            for stream in filter(None, (shown, told)):
                stream.end()


def discard(stream: TextIO | None) -> None:
    """Lead a stream nowhere, so that Python, which flushes it at the end, meets no error there."""
    with contextlib.suppress(OSError, ValueError):  # it is no file, or closed
        if stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_terminal_gone(error: OSError | ValueError) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EIO


class _Unfailing:
    """A stream that leaves out what it cannot write, where what is said is worth no run.

    Args:
        stream: what it writes to.
        leaves_out: whether an error in writing is one to go on after; any other is raised.
    """

    def __init__(self, stream: TextIO, leaves_out: Callable[[OSError | ValueError], bool]) -> None:
        self._stream = stream
        self._leaves_out = leaves_out

    def write(self, text: str) -> int:
        """Write if it can be."""
        with self._unless_left_out():
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write all of them if it can be."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Flush if it can be."""
        with self._unless_left_out():
            self._stream.flush()

    def end(self) -> None:
        """Flush for the last time; what is left out then is not tried again by Python."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:  # another one is raised at Python's own flush
            if self._leaves_out(error):
                discard(self._stream)

    @contextlib.contextmanager
    def _unless_left_out(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            if not self._leaves_out(error):
                raise

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # else a copy that is being made would ask for its stream without end
            raise AttributeError(name)
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
