"""What is measured of a run once it is made: rows beside those of its training, and facts in run.json."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from lrlab.runs import storage
from lrlab.runs.events import EVENTS_PREFIX, LATER, EventWriter
from lrlab.runs.lock import lock_run
from lrlab.runs.reader import read_info
from lrlab.runs.rows import PROMOTION, read_part, write_part

SHARPNESS: Final = "sharpness"
"""Key in run.json of how its sharpness is measured, and name of the rows."""
GENERALISATION: Final = "generalisation"
"""Key in run.json of how well a run generalises."""

AddRow = Callable[[int, Mapping[str, float | None]], None]
"""Update, column -> value, None where there is none."""


@contextmanager
def later_rows(run: Path, name: str, *, how: Mapping[str, Any]) -> Iterator[tuple[set[int], AddRow]]:
    """Add rows to metrics/<name>.parquet, which a reader takes with those of the training, and to TensorBoard.

    Each is on disk when the call returns, so that what was measured is kept whatever comes next.

    Args:
        run: the run's directory, whose lock is held meanwhile.
        name: of the measurement.
        how: it is made; kept in run.json, and the same for all rows.
    Yields: the updates that are there already, and what adds a row; one of the same update is replaced.
    Raises: RunError if rows are there that were measured otherwise; LockedError, StorageError.
    """
    file = run / storage.METRICS / f"{name}.parquet"
    with lock_run(run):
        info = read_info(run)
        storage.check_no_links(run, storage.METRICS)
        rows = read_part(file) if file.exists() else None
        if rows is not None and info.get(name) != how:
            changed = {key: value for key, value in info.get(name, {}).items() if how.get(key) != value}
            raise storage.RunError(
                f"{run}: its {name} was measured with {_listed(changed)}, and now it would be with "
                f"{_listed({key: how.get(key) for key in changed})}, which cannot be compared. "
                f"Use the earlier settings, or delete {file}."
            )
        storage.write_json(run / storage.INFO, {**info, name: dict(how)})
        with ExitStack() as stack:
            writers: list[EventWriter] = []  # none before there is something to write

            def add(step: int, values: Mapping[str, float | None]) -> None:
                nonlocal rows
                row = pa.table({"step": pa.array([step], pa.int64())} | {c: _cell(v) for c, v in values.items()})
                others = [] if rows is None else [rows.filter(pc.not_equal(rows["step"], step))]
                rows = pa.concat_tables([*others, row], promote_options=PROMOTION).sort_by("step")
                write_part(file, rows)
                if not writers:
                    writers.append(stack.enter_context(closing(EventWriter(run, is_later=True))))
                writers[0].add(step, scalars=_there(values), pngs={}, at=time.time())

            yield set() if rows is None else set(rows["step"].to_pylist()), add


def write_finding(run: Path, name: str, finding: Mapping[str, Any], *, step: int, scalars: Mapping[str, float]) -> None:
    """Write what was found out about a run as a whole into run.json, and the numbers of it to TensorBoard.

    Args:
        run: the run's directory, whose lock the caller holds.
        name: key in run.json; what stands there is replaced.
        finding: of plain values.
        step: update that the numbers are of.
        scalars: tag -> number.
    Raises: StorageError.
    """
    storage.write_json(run / storage.INFO, {**read_info(run), name: dict(finding)})
    with closing(EventWriter(run, is_later=True)) as events:
        events.add(step, scalars=scalars, pngs={}, at=time.time())


def show_again(run: Path) -> None:
    """Write to TensorBoard the rows of later measurements that are left of a run that was taken back, and none beside.

    Raises: StorageError.
    """
    for path in run.glob(f"{EVENTS_PREFIX}*{LATER}"):
        storage.delete(path)
    parts = [part for part in storage.part_paths(run) if not storage.is_of_training(part)]
    if not parts:
        return
    with closing(EventWriter(run, is_later=True)) as events:
        for part in parts:
            for row in read_part(part).to_pylist():
                events.add(row.pop("step"), scalars=_there(row), pngs={}, at=time.time())


def figures(finding: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of how a run generalises that are one number each; none of an empty finding."""
    named = {name: value for name, value in finding.items() if isinstance(value, float)}
    if finding.get("linear_probe"):
        named["linear_probe_accuracy"] = finding["linear_probe"]["accuracy"]
    return named


def _cell(value: float | None) -> pa.Array:
    return pa.array([value], pa.float64())


def _there(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in settings.items())
