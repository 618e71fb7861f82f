"""The run directory: plain files that outlive the program. Nothing here needs torch."""

from lrlab.runs.lock import LockedError, lock_run
from lrlab.runs.reader import Run, find_runs, read_info, read_run
from lrlab.runs.storage import RunError, StorageError
from lrlab.runs.writer import RunWriter, Status, check_vacant

__all__ = [
    "LockedError",
    "Run",
    "RunError",
    "RunWriter",
    "Status",
    "StorageError",
    "check_vacant",
    "find_runs",
    "lock_run",
    "read_info",
    "read_run",
]
