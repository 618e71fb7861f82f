"""Writes a run directory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from lrlab.config import RunConfig, to_toml
from lrlab.runs import storage
from lrlab.runs.background import Background
from lrlab.runs.environment import describe_environment
from lrlab.runs.events import EventWriter
from lrlab.runs.lock import lock_run
from lrlab.runs.reader import read_info

Status = Literal["running", "complete", "preempted", "diverged", "failed"]

Array = npt.NDArray[Any]


class RunWriter:
    """The one writer of a run directory, from its creation to its end.

    Rows and TensorBoard events are written by a thread. Where it fails, the next `write_rows`, `write_evaluation`,
    `wait` or `finish` raises its StorageError, and it tries the same again after that.

    Use it as a context: leaving it waits for the thread, ends the event file and gives the lock back.
    """

    def __init__(
        self, directory: Path, config: RunConfig, *, again: bool = False, num_steps: int | None = None
    ) -> None:
        """Make the directory and take its lock.

        Args:
            directory: new or empty.
            config: of the run.
            again: whether a run in it that was cut short is deleted first.
            num_steps: updates that the run will have, by which TensorBoard's curves are thinned; None: they are not.
        Raises: RunError if it holds a run that is over, or anything else; LockedError; StorageError.
        """
        self.directory = directory
        if not again:  # leaves no lock behind in a folder that is not ours
            check_vacant(directory)
        with contextlib.ExitStack() as stack:
            with storage.storage_errors(directory):
                directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock_run(directory))
            check_vacant(directory, again=again)  # only with the lock is nobody else at work in it
            _clear(directory)
            self._begin(config)
            self._events = EventWriter(directory, num_steps=num_steps)
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
        self._info: dict[str, Any] = {
            "format_version": storage.FORMAT_VERSION,
            "status": "running",
            "owner": {"pid": os.getpid(), "host": socket.gethostname()},
            "environment": describe_environment(),
        }
        storage.write_whole(self.directory / storage.CONFIG, to_toml(config).encode())
        self._write_info()
        with storage.storage_errors(self.directory):
            for folder in (storage.METRICS, storage.CONFUSION, storage.FIGURES, storage.CHECKPOINTS):
                (self.directory / folder).mkdir()

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

    def write_checkpoint(self, step: int, files: Mapping[str, bytes]) -> Path:
        """Write checkpoints/step-<n>/: the files, and last a manifest of their sizes and SHA-256.

        The folder is filled under another name and renamed when it is whole.
        """
        target = self.directory / storage.CHECKPOINTS / f"step-{step:06d}"
        aside = target.with_name(f".{target.name}.tmp")
        facts = {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        }
        with storage.storage_errors(target):
            aside.mkdir()
            for name, content in files.items():
                storage.write_whole(aside / name, content)
            manifest = {"format_version": storage.FORMAT_VERSION, "step": step, "files": facts}
            storage.write_json(aside / "manifest.json", manifest)
            return aside.rename(target)

    def finish(self, status: Status, result: Mapping[str, Any]) -> None:
        """Say how the run ended, once its rows are on disk; a complete one has them merged into one file.

        Raises: StorageError if some rows could not be written. A run that was said to be complete has failed then.
        """
        ended: Status = "failed" if status == "complete" else status
        try:
            self.wait()
            if status == "complete":
                self._merge_parts()
            ended = status
        finally:
            self.describe(status=ended, result=dict(result))

    def _write_info(self) -> None:
        storage.write_json(self.directory / storage.INFO, self._info)

    def _write_rows(self, rows: Mapping[str, Array], *, since: float, until: float) -> None:
        columns = {name: pa.array(np.ma.getdata(values), mask=_mask(values)) for name, values in rows.items()}
        self._write_part(int(rows["step"][0]), pa.table(columns))
        self._events.add_rows(rows, since=since, until=until)

    def _write_part(self, first_step: int, table: pa.Table) -> None:
        path = self.directory / storage.METRICS / f"part-{first_step:09d}.parquet"
        buffer = pa.BufferOutputStream()
        # hardly a measured value comes twice, so a dictionary of them costs time and space
        pq.write_table(table, buffer, compression="zstd", use_dictionary=False)
        storage.write_whole(path, buffer.getvalue().to_pybytes())

    def _merge_parts(self) -> None:
        parts = sorted((self.directory / storage.METRICS).glob("part-*.parquet"))
        if len(parts) < 2:
            return
        # written over the first part before the others go: a reader in between drops the rows that it has twice
        tables = [pq.read_table(part) for part in parts]
        self._write_part(1, pa.concat_tables(tables, promote_options=storage.PROMOTION))
        for part in parts[1:]:
            part.unlink()


def check_vacant(directory: Path, *, again: bool = False) -> None:
    """Check that a run can be made in a directory: it is not there yet, or empty.

    Args:
        directory: the directory.
        again: whether a run in it that was cut short is no hindrance.
    Raises: RunError.
    """
    if not directory.exists():
        return
    with storage.storage_errors(directory):
        names = {path.name for path in directory.iterdir()} - {storage.LOCK}
    if storage.INFO in names:
        if not again or read_info(directory)["status"] in ("complete", "diverged"):
            raise storage.RunError(
                f"{directory} already holds a run. Choose another directory with --run, or delete it."
            )
    elif names and not (again and all(name == storage.CONFIG or name.endswith(".tmp") for name in names)):
        raise storage.RunError(f"{directory} is not empty and holds no run. Choose another directory with --run.")


def _mask(values: Array) -> Array | None:
    return np.ma.getmaskarray(values) if np.ma.is_masked(values) else None


def _clear(directory: Path) -> None:
    """Delete what a directory holds, but not its lock, which this process has.

    run.json goes last: should this be cut short as well, the directory is still known for a run.
    """
    with storage.storage_errors(directory):
        for path in sorted(directory.iterdir(), key=lambda path: path.name == storage.INFO):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != storage.LOCK:
                path.unlink()
