"""One process at a time writes a run."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import ClassVar

from filelock import FileLock, Timeout

from lrlab.runs.storage import INFO, LOCK, StorageError, read_file, storage_errors

_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


class LockedError(RuntimeError):
    """Another process is at work on this run."""

    exit_code: ClassVar[int] = 6


@contextmanager
def lock_run(directory: Path) -> Iterator[None]:
    """Hold the lock of a run directory, got within half a second or not at all; it is free when its process ends.

    Raises: LockedError naming the owner.
    """
    # somebody who only looks whether a process has it, has it for an instant
    with lock_file(directory / LOCK, lambda: _complaint(directory), timeout=0.5):
        yield


def is_written(directory: Path) -> bool:
    """Whether a process writes this run now; True too where that cannot be found out, in a folder that is read-only."""
    try:
        lock = directory / LOCK
        with lock_file(lock, lambda: _complaint(directory)) if lock.exists() else nullcontext():
            return False
    except (LockedError, StorageError):
        return True


@contextmanager
def lock_file(path: Path, complaint: Callable[[], str], *, timeout: float = 0.0) -> Iterator[None]:
    """Hold a lock by name of its file, for which it waits so many seconds at the most.

    Raises: LockedError with the complaint if another process has it; StorageError, also where there are no locks.
    """
    lock = FileLock(path)
    with storage_errors(path.parent):
        try:
            lock.acquire(timeout=timeout)
        except Timeout:  # an OSError too, but not one of the disk's
            raise LockedError(complaint()) from None
        except (NotImplementedError, OSError) as error:  # the first is ENOSYS in a filelock of before #480
            if isinstance(error, OSError) and error.errno not in _WITHOUT_LOCKS:
                raise
            raise StorageError(
                f"{path.parent}: its file system does not support locks, without which two processes could write one "
                "run. Use another file system: by --run, or for a study by starting it in another directory."
            ) from error
    try:
        yield
    finally:
        lock.release()


def _complaint(directory: Path) -> str:
    """Say that another process has the lock: of a run under way which, of one that is measured only that."""
    try:
        info = json.loads(read_file(directory / INFO))
        owner = f" (process {info['owner']['pid']} on {info['owner']['host']})" if info["status"] == "running" else ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        owner = ""
    return f"{directory}: another process is writing this run{owner}."
