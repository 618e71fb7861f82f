"""Takes the records of a run back to a checkpoint, so that each update is on record once when it goes on."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from lrlab.runs import storage
from lrlab.runs.afterwards import show_again
from lrlab.runs.checkpoints import checkpoint_paths, checkpoint_step
from lrlab.runs.events import EVENTS_PREFIX
from lrlab.runs.rows import read_part, write_part


def rewind(run: Path, step: int, *, sizes: Mapping[str, int]) -> None:
    """Delete what a run recorded after a checkpoint. It may be cut short and done again.

    Args:
        run: the run's directory, whose lock this process has.
        step: the last update that stays.
        sizes: of the files that grow, name -> bytes at the checkpoint; those that are not among them go.
    Raises: StorageError, if one that cannot be made again is shorter than it was for instance.
    """
    kept = [_cut_part(part, step) for part in storage.part_paths(run)]
    # each once: a merge that was cut short has some twice
    num_rows = len(np.unique(np.concatenate([np.empty(0, np.int64), *kept])))
    if num_rows < step:
        raise storage.StorageError(
            f"{run / storage.METRICS}: damaged, it has rows of {num_rows} updates and had {step} at the checkpoint."
        )
    with storage.storage_errors(run):
        for path in (run / storage.EVALUATIONS, run / storage.DECISIONS):
            _check_length(path, sizes.get(path.name, 0))
            _cut_file(path, sizes.get(path.name, 0))
        for path in run.glob(f"{EVENTS_PREFIX}*"):
            _cut_file(path, sizes.get(path.name, 0))
        for picture in (run / storage.CONFUSION).glob("step-*.png"):
            number = re.fullmatch(r"step-(\d+)", picture.stem)
            if number and int(number.group(1)) > step:
                picture.unlink()
        for path in checkpoint_paths(run):
            if checkpoint_step(path) > step:
                storage.delete(path)
        for left in (*run.glob(".*.tmp"), *run.glob("*/.*.tmp")):  # by a process that was killed
            storage.delete(left)
        show_again(run)


def _check_length(path: Path, size: int) -> None:
    found = path.stat().st_size if path.exists() else 0
    if found < size:
        raise storage.StorageError(f"{path}: damaged, it has {found} bytes, fewer than the {size} at the checkpoint.")


def _cut_file(path: Path, size: int) -> None:
    if not size:
        path.unlink(missing_ok=True)
    elif path.stat().st_size > size:
        os.truncate(path, size)


def _cut_part(part: Path, step: int) -> npt.NDArray[np.int64]:
    """Take a part back to an update; return the updates of which it has rows then."""
    rows = read_part(part)
    kept = rows.filter(pc.less_equal(rows["step"], step))
    if not len(kept):
        with storage.storage_errors(part), contextlib.suppress(FileNotFoundError):
            part.unlink()
    elif len(kept) < len(rows):
        write_part(part, kept)
    found: npt.NDArray[np.int64] = kept["step"].to_numpy()
    return found
