"""The command line: `lrlab`, and `python -m lrlab`."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence

from cyclopts import CycloptsError

from lrlab.cli.app import app
from lrlab.cli.launch import SHARED_BY_RANKS, num_ranks, rank
from lrlab.cli.parsing import explain
from lrlab.cli.signals import INTERRUPTED, Stopped, stopped_at_once

USAGE = 2
DISK = 5
KEEPS = ("train", "resume", "study", "track", "sharpness", "generalisation")
"""Verbs that write as they go."""
CLOSED_PIPE = 128 + signal.SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    What a user can mend is said in a line or two, with the code that its exception carries; anything else is a bug
    of ours and keeps its traceback.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if num_ranks() == 1:
        with _shown_otherwise(sys.stdout):
            return _main(given)
    if given and given[0] in app and given[0] not in SHARED_BY_RANKS:
        _complain(f"lrlab {given[0]}: it is for one process: start it without torchrun.\n")
        return USAGE
    with _shown_otherwise(sys.stdout):
        code = _main(given)
    sys.stdout.flush()
    sys.stderr.flush()
    # A regular end aborts now and then in a thread of gloo's that is still there ("terminate called without an active
    # exception", pytorch/pytorch#190489), and torchrun would take a run that is complete for a failure.
    os._exit(code)


def _main(arguments: list[str]) -> int:
    with stopped_at_once(), warnings.catch_warnings():
        warnings.showwarning = _show_warning  # type: ignore[assignment]  # it is called with all arguments in place
        try:
            return int(app(arguments) or 0)
        except CycloptsError as error:
            _complain(explain(error, app) + "\n")
            return USAGE
        except KeyboardInterrupt as stop:
            if rank() == 0:
                kept = "; what was recorded so far is kept" if arguments and arguments[0] in KEEPS else ""
                _complain(f"lrlab: stopped{kept}.\n")
            return stop.exit_code if isinstance(stop, Stopped) else INTERRUPTED
        except BrokenPipeError:
            return _closed_pipe()
        except SystemExit as end:
            if not isinstance(end.__context__, BrokenPipeError):  # by which rich ends where nobody reads the help
                raise
            return _closed_pipe()
        except MemoryError:  # outside of the updates, which say more
            _complain("lrlab: out of memory: the machine has too little left for this. Free some, or take less data.\n")
            return USAGE
        except Exception as error:
            code = getattr(error, "exit_code", None)
            if code is None and isinstance(error, OSError) and (error.errno, error.filename) == (errno.ENOSPC, None):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                _complain("lrlab: there is no space left where the output goes.\n")
                return DISK
            if code is None:
                raise
            who = f"lrlab: rank {rank()}" if num_ranks() > 1 else "lrlab"
            _complain("".join(f"{who}: {line}\n" for line in str(error).splitlines()))
            return int(code)


@contextlib.contextmanager
def _shown_otherwise(stream: object) -> Iterator[None]:
    """Within, what a stream's encoding does not have is written as an escape: a name is no reason to end a training."""
    if not isinstance(stream, io.TextIOWrapper) or stream.errors != "strict":
        yield
        return
    gone = contextlib.suppress(OSError, ValueError)  # it is closed, or was turned into another one meanwhile
    with gone:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with gone:
            stream.reconfigure(errors="strict")


def _closed_pipe() -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; Python flushes in peace
    return CLOSED_PIPE


def _show_warning(message: Warning | str, *where: object) -> None:
    if rank() == 0:
        _complain(f"lrlab: warning: {message}\n")


def _complain(text: str) -> None:
    text = "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)
    with contextlib.suppress(BrokenPipeError):  # nobody reads it, which is no reason to end otherwise
        sys.stderr.write(text)
