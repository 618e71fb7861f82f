"""Writes a run directory."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lrlab.config import RunConfig, to_toml
from lrlab.runs import storage
from lrlab.runs.afterwards import GENERALISATION
from lrlab.runs.background import Background
from lrlab.runs.checkpoints import Checkpoint, DamagedError, last_step, newest_sound, prune, write_checkpoint
from lrlab.runs.directory import check_resumable, check_vacant, clear, lengthening
from lrlab.runs.environment import describe_environment
from lrlab.runs.events import EVENTS_PREFIX, EventWriter, Written, stretch_of
from lrlab.runs.lock import lock_run
from lrlab.runs.reader import read_info
from lrlab.runs.rewind import rewind
from lrlab.runs.rows import PROMOTION, read_part, write_part

POSITION = "position.json"
"""In a checkpoint: how far the files that grow were written when it was made."""


Array = npt.NDArray[Any]


class RunWriter:
    """The one writer of a run directory, from its creation to its end.

    Rows and TensorBoard events are written by a thread. Where it fails, the next `write_rows`, `write_evaluation`,
    `wait` or `finish` raises its StorageError, and it tries the same again after that.

    Use it as a context: leaving it waits for the thread, ends the event file and gives the lock back.
    """

    def __init__(
        self, directory: Path | str, config: RunConfig, *, resumes: bool = False, num_steps: int | None = None
    ) -> None:
        """Make the directory, or take up the run that is in it, and take its lock.

        Args:
            directory: new or empty; with `resumes` it may also hold a run that is not over, or is to have more updates.
            config: of the run; of one that is taken up, the same but for keys that change nothing of its results.
            resumes: whether a run in it goes on from `checkpoint`. One that has none yet begins anew.
            num_steps: updates that the run will have, by which TensorBoard's curves are thinned; None: they are not.
        Raises: RunError if it holds a run that is over, or one of another configuration, or anything else;
            LockedError; StorageError, if no checkpoint is sound for instance.
        """
        self.directory = directory = Path(directory)
        self.checkpoint: Checkpoint | None = None
        """What a run that is taken up goes on from; all that it recorded after that is deleted."""
        self.before: Mapping[str, Any] = {}
        """What run.json said of a run that is taken up."""
        self.checkpoint_problem: storage.StorageError | None = None
        """Why the last checkpoint could not be written; None if it was."""
        if not resumes:  # leaves no lock behind in a folder that is not ours
            check_vacant(directory)
        with contextlib.ExitStack() as stack:
            with storage.storage_errors(directory):
                directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock_run(directory))
            storage.check_no_links(directory, *storage.WRITTEN_INTO, f"{EVENTS_PREFIX}*")
            written = None
            if resumes:  # only with the lock is nobody else at work in it
                check_resumable(directory, config)
                self.checkpoint = newest_sound(directory)
            else:
                check_vacant(directory)
            if self.checkpoint is None:
                clear(directory)
                self._begin(config)
            else:
                written = self._take_up(config, self.checkpoint)
            self._events = EventWriter(directory, num_steps=num_steps, written=written)
            stack.callback(self._events.close)
            self._background = Background()
            stack.callback(self._background.close)
            self._written_at = time.time()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _begin(self, config: RunConfig) -> None:
        self._info: dict[str, Any] = {"format_version": storage.FORMAT_VERSION, **_begun()}
        self._write_begun(config)

    def _take_up(self, config: RunConfig, checkpoint: Checkpoint) -> Written:
        """Go back to a checkpoint; return how far TensorBoard's curves are written."""
        try:
            position = json.loads(checkpoint.files[POSITION])
            sizes, last = position["sizes"], position["last"]
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{checkpoint.path}: {POSITION} is not what lrlab writes.") from error
        rewind(self.directory, checkpoint.step, sizes=sizes)
        prune(self.directory, keep=config.checkpoint.keep)  # which a killed process may have left undone
        # what was found out about the network that it ended with is not of the one that it comes to now
        before = self.before = {k: v for k, v in read_info(self.directory).items() if k != GENERALISATION}
        engine = {"ranks": 1, **before.get("engine", {})}  # runs of an older lrlab do not say
        made = {key: engine[key] for key in ("precision", "ranks") if key in engine}
        again = {"step": checkpoint.step, "status": before["status"], **made, **lengthening(checkpoint, config)}
        # older checkpoints do not say how long the stretches were, but the run how many updates it was to have
        stretch = position.get("stretch", stretch_of(engine.get("num_steps")))
        self._info = {**before, **_begun(), "resumed": [*before.get("resumed", []), again]}
        self._write_begun(config)
        return Written(stretch, dict(last))

    def _write_begun(self, config: RunConfig) -> None:
        storage.write_whole(self.directory / storage.CONFIG, to_toml(config).encode())
        self._write_info()
        with storage.storage_errors(self.directory):
            for folder in storage.FOLDERS:
                (self.directory / folder).mkdir(exist_ok=True)

    @property
    def info(self) -> Mapping[str, Any]:
        """What run.json says."""
        return self._info

    def describe(self, **facts: Any) -> None:
        """Add facts that were found out after the start, the data set's and the engine's for instance, to run.json."""
        self._info.update(facts)
        self._write_info()

    def write_rows(self, rows: Mapping[str, Array]) -> None:
        """Have rows written as one more part, and as events; nothing if there are none.

        Args:
            rows: column -> its value at each update, (n,), oldest first, masked (`numpy.ma`) where it was not measured.
                `step` is one of them. From now on they belong to the writer.
        Raises: StorageError if earlier ones could not be written; these are not taken then, and may be given again.
        """
        now = time.time()
        if len(rows["step"]):
            self._background.submit(partial(self._write_rows, rows, since=self._written_at, until=now))
        self._written_at = now

    def wait(self) -> None:
        """Wait until all rows and events are on disk, as a checkpoint must that lies behind them.

        Raises: StorageError if some could not be written.
        """
        self._background.wait()

    def write_evaluation(self, record: dict[str, Any], *, png: bytes) -> None:
        """Write one evaluation and the picture of its confusion matrix."""
        step, split = int(record["step"]), record["split"]
        storage.append_json_lines(self.directory / storage.EVALUATIONS, [record])
        storage.write_whole(self.directory / storage.CONFUSION / f"step-{step:06d}.png", png)
        scalars = {f"{split}/{name}": record[name] for name in ("loss", "accuracy")}
        if "mirror" in record:
            scalars[f"{split}/accuracy_mirror"] = record["mirror"]["accuracy"]
        pngs = {f"{split}/confusion": png}
        self._background.submit(partial(self._events.add, step, scalars=scalars, pngs=pngs, at=time.time()))

    def write_decisions(self, decisions: list[dict[str, Any]]) -> None:
        """Write decisions of a scheduler, oldest first."""
        storage.append_json_lines(self.directory / storage.DECISIONS, decisions)

    def write_checkpoint(self, step: int, files: Mapping[str, bytes], *, keep: int) -> None:
        """Have a checkpoint written, behind all rows given so far: what it is of is on disk before it.

        One that cannot be written costs nothing but itself: what was there stays, and `checkpoint_problem` says why.
        To know, call `wait`.

        Args:
            step: updates made so far.
            files: name -> content; the configuration and how far TensorBoard's files are written go with them.
            keep: checkpoints to leave, this one counted.
        Raises: StorageError if earlier rows could not be written.
        """
        sizes = self._sizes(storage.EVALUATIONS, storage.DECISIONS)  # now: they may be longer once it is written
        self._background.submit(partial(self._write_checkpoint, step, files, sizes=sizes, keep=keep))

    def _write_checkpoint(self, step: int, files: Mapping[str, bytes], *, sizes: Mapping[str, int], keep: int) -> None:
        try:
            for folder in (self.directory, self.directory / storage.METRICS):
                storage.sync_directory(folder)  # rows that the disk forgets would not be made again
            self._events.sync()
            position = {"sizes": {**sizes, **self._sizes(f"{EVENTS_PREFIX}*")}, **self._events.written._asdict()}
            with storage.storage_errors(self.directory):
                config = (self.directory / storage.CONFIG).read_bytes()
            files = {**files, storage.CONFIG: config, POSITION: json.dumps(position).encode()}
            write_checkpoint(self.directory, step, files, keep=keep)
            self.checkpoint_problem = None
        except storage.StorageError as error:
            self.checkpoint_problem = error

    def _sizes(self, *patterns: str) -> dict[str, int]:
        with storage.storage_errors(self.directory):
            found = [path for pattern in patterns for path in self.directory.glob(pattern)]
            return {path.name: path.stat().st_size for path in found}

    def finish(self, status: storage.Status, result: Mapping[str, Any]) -> None:
        """Say how the run ended, once its rows are on disk; a complete one has them merged into one file.

        Raises: StorageError if some rows could not be written. A run that was said to be complete has failed then.
        """
        ended: storage.Status = "failed" if status == "complete" else status
        try:
            self.wait()
            if status == "complete":
                self._merge_parts()
            ended = status
        finally:
            self.describe(status=ended, result=dict(result), checkpoint=last_step(self.directory))

    def _write_info(self) -> None:
        storage.write_json(self.directory / storage.INFO, self._info)

    def _write_rows(self, rows: Mapping[str, Array], *, since: float, until: float) -> None:
        columns = {name: pa.array(np.ma.getdata(values), mask=_mask(values)) for name, values in rows.items()}
        write_part(storage.part_path(self.directory, int(rows["step"][0])), pa.table(columns))
        self._events.add_rows(rows, since=since, until=until)

    def _merge_parts(self) -> None:
        parts = [part for part in storage.part_paths(self.directory) if storage.is_of_training(part)]
        if len(parts) < 2:
            return
        # written over the first part before the others go: a reader in between drops the rows that it has twice
        tables: list[pa.Table] = []
        for table in map(read_part, parts):
            # the first part holds all the others where a process was killed below
            last = pc.max(tables[-1]["step"]).as_py() if tables else 0
            if len(rows := table.filter(pc.greater(table["step"], last))):
                tables.append(rows)
        merged = pa.concat_tables(tables, promote_options=PROMOTION)
        write_part(storage.part_path(self.directory, 1), merged)
        for part in parts[1:]:
            part.unlink()


def _begun() -> dict[str, Any]:
    """What run.json says of the process that is at work."""
    return {
        "status": "running",
        "owner": {"pid": os.getpid(), "host": socket.gethostname()},
        "environment": describe_environment(),
    }


def _mask(values: Array) -> Array | None:
    return np.ma.getmaskarray(values) if np.ma.is_masked(values) else None
