"""Takes the records of a run back to a checkpoint, so that each update is on record once when it goes on."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow.compute as pc

from lrlab.runs import storage
from lrlab.runs.checkpoints import checkpoint_paths
from lrlab.runs.storage import delete


def rewind(run: Path, step: int, *, evaluated_at: int, event_sizes: Mapping[str, int]) -> None:
    """Delete what a run recorded after an update. It may be cut short and done again.

    Args:
        run: the run's directory, whose lock this process has.
        step: the last update that stays.
        evaluated_at: update of the last evaluation that stays: one of `step` may have come after the checkpoint.
        event_sizes: TensorBoard's files at that update, name -> bytes; others go.
    Raises: StorageError.
    """
    for part in sorted((run / storage.METRICS).glob("*.parquet")):
        _cut_part(part, step)
    _cut_lines(run / storage.EVALUATIONS, evaluated_at)
    _cut_lines(run / storage.DECISIONS, step)
    with storage.storage_errors(run):
        for picture in (run / storage.CONFUSION).glob("step-*.png"):
            number = re.fullmatch(r"step-(\d+)", picture.stem)
            if number and int(number.group(1)) > evaluated_at:
                picture.unlink()
        for events in run.glob("events.out.tfevents.*"):
            if events.name not in event_sizes:
                events.unlink()
            elif events.stat().st_size > event_sizes[events.name]:
                os.truncate(events, event_sizes[events.name])
        for path in checkpoint_paths(run):
            if int(path.name.removeprefix("step-")) > step:
                delete(path)
        for left in (*run.glob(".*.tmp"), *run.glob("*/.*.tmp")):  # by a process that was killed
            delete(left)


def _cut_part(part: Path, step: int) -> None:
    rows = storage.read_part(part)
    kept = rows.filter(pc.less_equal(rows["step"], step))
    if not len(kept):
        with storage.storage_errors(part), contextlib.suppress(FileNotFoundError):
            part.unlink()
    elif len(kept) < len(rows):
        storage.write_part(part, kept)


def _cut_lines(path: Path, step: int) -> None:
    records = storage.read_json_lines(path)  # a line without its end is none
    if path.exists():
        storage.write_json_lines(path, [record for record in records if record["step"] <= step])
