"""Writes a run directory."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.parquet as pq

from lrlab.config import RunConfig, to_toml
from lrlab.runs import storage
from lrlab.runs.environment import describe_environment
from lrlab.runs.events import EventWriter
from lrlab.runs.lock import lock_run

Status = Literal["running", "complete", "preempted", "diverged", "failed"]

_INTEGERS = ("step", "epoch")


class RunWriter:
    """The one writer of a run directory, from its creation to its end.

    Use it as a context: leaving it ends the event file and gives the lock back.
    """

    def __init__(self, directory: Path, config: RunConfig) -> None:
        """Make the directory and take its lock.

        Raises: RunError if it holds a run or anything else already; LockedError; StorageError.
        """
        self.directory = directory
        with storage.storage_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
        self._lock = lock_run(directory)
        try:
            _check_vacant(directory)
        except BaseException:
            self._lock.release()
            raise
        self._info: dict[str, Any] = {
            "format_version": storage.FORMAT_VERSION,
            "status": "running",
            "owner": {"pid": os.getpid(), "host": socket.gethostname()},
            "environment": describe_environment(),
        }
        storage.write_whole(directory / storage.CONFIG, to_toml(config).encode())
        self._write_info()
        with storage.storage_errors(directory):
            for folder in (storage.METRICS, storage.CONFUSION, storage.FIGURES):
                (directory / folder).mkdir()
            self.events = EventWriter(directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.events.close()
        self._lock.release()

    def describe(self, **facts: Any) -> None:
        """Add facts that were found out after the start, the data set's and the engine's for instance, to run.json."""
        self._info.update(facts)
        self._write_info()

    def write_rows(self, rows: Sequence[Mapping[str, float | None]]) -> None:
        """Write rows, oldest first, as one more part; nothing if there are none."""
        if not rows:
            return
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        schema = pa.schema([(name, pa.int64() if name in _INTEGERS else pa.float64()) for name in columns])
        self._write_part(int(rows[0]["step"] or 0), pa.table(columns, schema=schema))

    def write_evaluation(self, record: dict[str, Any], *, png: bytes) -> None:
        """Write one evaluation and the picture of its confusion matrix."""
        step = int(record["step"])
        storage.append_json_lines(self.directory / storage.EVALUATIONS, [record])
        storage.write_whole(self.directory / storage.CONFUSION / f"step-{step:06d}.png", png)
        scalars = {f"{record['split']}/{name}": record[name] for name in ("loss", "accuracy")}
        self.events.add_scalars(step, scalars)
        self.events.add_png(step, f"{record['split']}/confusion", png)
        self.events.flush()

    def write_decisions(self, decisions: list[dict[str, Any]]) -> None:
        """Write decisions of a scheduler, oldest first."""
        storage.append_json_lines(self.directory / storage.DECISIONS, decisions)

    def finish(self, status: Status, result: Mapping[str, Any]) -> None:
        """Say how the run ended; a complete one has its rows merged into one file."""
        if status == "complete":
            self._merge_parts()
        self.describe(status=status, result=dict(result))

    def _write_info(self) -> None:
        storage.write_json(self.directory / storage.INFO, self._info)

    def _write_part(self, first_step: int, table: pa.Table) -> None:
        path = self.directory / storage.METRICS / f"part-{first_step:09d}.parquet"
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        storage.write_whole(path, buffer.getvalue().to_pybytes())

    def _merge_parts(self) -> None:
        parts = sorted((self.directory / storage.METRICS).glob("part-*.parquet"))
        if len(parts) < 2:
            return
        # written over the first part before the others go: a reader in between drops the rows that it has twice
        self._write_part(1, pa.concat_tables([pq.read_table(part) for part in parts]))
        for part in parts[1:]:
            part.unlink()


def _check_vacant(directory: Path) -> None:
    with storage.storage_errors(directory):
        names = {path.name for path in directory.iterdir()}
    if storage.INFO in names:
        raise storage.RunError(f"{directory} already holds a run. Choose another directory with --run, or delete it.")
    if names - {".lock"}:
        raise storage.RunError(f"{directory} is not empty and holds no run. Choose another directory with --run.")
