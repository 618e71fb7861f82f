"""The command line: `lrlab`, and `python -m lrlab`."""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings
from collections.abc import Sequence

from cyclopts import CycloptsError

from lrlab.cli.app import app
from lrlab.cli.launch import SHARED_BY_RANKS, num_ranks, rank
from lrlab.cli.parsing import explain
from lrlab.cli.signals import INTERRUPTED, Stopped, stopped_at_once
from lrlab.cli.streams import discard, unfailing_streams

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
    with unfailing_streams():
        if num_ranks() == 1:
            return _main(given)
        if given and given[0] in app and given[0] not in SHARED_BY_RANKS:
            _complain(f"lrlab {given[0]}: runs in a single process. Start it without torchrun.\n")
            return USAGE
        code = _main(given)
    if sys.stdout is not None:  # None: it was closed at the start
        sys.stdout.flush()
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
            _complain("lrlab: out of memory. Free some memory, or use less data.\n")
            return USAGE
        except Exception as error:
            code = getattr(error, "exit_code", None)
            if code is None and isinstance(error, OSError) and (error.errno, error.filename) == (errno.ENOSPC, None):
                discard(sys.stdout)
                _complain("lrlab: the output cannot be written: no space left on its disk.\n")
                return DISK
            if code is None:
                raise
            who = f"lrlab: rank {rank()}" if num_ranks() > 1 else "lrlab"
            _complain("".join(f"{who}: {line}\n" for line in str(error).splitlines()))
            return int(code)


def _closed_pipe() -> int:
    discard(sys.stdout)
    return CLOSED_PIPE


def _show_warning(message: Warning | str, *where: object) -> None:
    if rank() == 0:
        _complain(f"lrlab: warning: {message}\n")


def _complain(text: str) -> None:
    text = "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)
    sys.stderr.write(text)
