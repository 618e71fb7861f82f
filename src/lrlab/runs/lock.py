"""One process at a time writes a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import ClassVar

from filelock import FileLock, Timeout

from lrlab.runs.storage import INFO, LOCK, StorageError, storage_errors


class LockedError(RuntimeError):
    """Another process is at work on this run."""

    exit_code: ClassVar[int] = 6


@contextmanager
def lock_run(directory: Path) -> Iterator[None]:
    """Hold the lock of a run directory, got at once or not at all; it is free when its process ends, however.

    Raises: LockedError naming the owner.
    """
    with lock_file(directory / LOCK, lambda: f"{directory}: another process is writing this run{_owner(directory)}."):
        yield


def is_written(directory: Path) -> bool:
    """Whether a process writes this run now; True too where that cannot be found out, in a folder that is read-only."""
    try:
        with lock_run(directory) if (directory / LOCK).exists() else nullcontext():
            return False
    except (LockedError, StorageError):
        return True


@contextmanager
def lock_file(path: Path, complaint: Callable[[], str]) -> Iterator[None]:
    """Hold a lock by name of its file.

    Raises: LockedError with the complaint if another process has it.
    """
    lock = FileLock(path)
    with storage_errors(path.parent):
        try:
            lock.acquire(timeout=0)
        except Timeout:  # an OSError too, but not one of the disk's
            raise LockedError(complaint()) from None
    try:
        yield
    finally:
        lock.release()


def _owner(directory: Path) -> str:
    """Who wrote run.json last, where that can be read."""
    try:
        owner = json.loads((directory / INFO).read_text())["owner"]
        return f" (process {owner['pid']} on {owner['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
