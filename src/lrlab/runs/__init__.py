"""The run directory: plain files that outlive the program. Nothing here needs torch."""

from lrlab.runs.checkpoints import Checkpoint, DamagedError, sound_checkpoints
from lrlab.runs.directory import check_resumable, check_vacant
from lrlab.runs.finding import find_runs, list_runs
from lrlab.runs.lock import LockedError, lock_run
from lrlab.runs.onlooker import Onlooker
from lrlab.runs.reader import Run, read_info, read_run
from lrlab.runs.storage import RunError, Status, StorageError
from lrlab.runs.writer import RunWriter

__all__ = [
    "Checkpoint",
    "DamagedError",
    "LockedError",
    "Onlooker",
    "Run",
    "RunError",
    "RunWriter",
    "Status",
    "StorageError",
    "check_resumable",
    "check_vacant",
    "find_runs",
    "list_runs",
    "lock_run",
    "read_info",
    "read_run",
    "sound_checkpoints",
]
