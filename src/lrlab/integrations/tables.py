"""Tables of runs as trackers export them: CSV and Parquet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from lrlab.integrations.recorded import PREFIXES, RecordedError, Recording
from lrlab.runs.elsewhere import Curve

STEPS: Final = ("step", "global_step", "Step", "_step", "iteration")
RUNS: Final = ("run_name", "run", "Name", "tags.mlflow.runName", "Run", "run_id", "ID")
"""Columns that tell runs apart."""
MOST_LABELS: Final = 20
"""Different values of a column of numbers that may tell runs apart."""
_OF_A_RUN: Final = re.compile(r"(?P<run>.+?) - (?P<quantity>(?:(?! - ).)+?)(?P<edge>__MIN|__MAX)?")
"""A column of Weights & Biases' charts."""
_QUANTITY: Final = ("metrics.",)


def read_table(path: Path, *, keys: Sequence[str] = ()) -> list[Recording]:
    """Read a table with a header as runs.

    Rows of one run follow each other by step: a column of one of the names in STEPS; without one they are numbered. A
    table that has a column of RUNS, or one of the keys, holds a run for each value. Columns of numbers are quantities;
    those that are called params.* or config.*, the keys, and text that does not change within a run are its settings.
    Charts that Weights & Biases exports have a column "<run> - <quantity>" for each run.

    Args:
        path: .csv or .parquet.
        keys: further columns that tell runs apart, with params. or config. before their names or without.
    Raises: RecordedError if it cannot be read, or has no rows.
    """
    table = _read(path)
    step = next((name for name in STEPS if name in table.column_names), None)
    others = [name for name in table.column_names if name != step]
    if step is not None and others and all(_OF_A_RUN.fullmatch(name) for name in others):
        return list(_chart(table, step, path))
    bare = {_bare(name, PREFIXES): name for name in table.column_names}
    named = [name if name in table.column_names else bare.get(_bare(name, PREFIXES), name) for name in (*RUNS, *keys)]
    apart = [name for name in dict.fromkeys(named) if name in table.column_names]
    if not apart:
        return [_recording("", table, step, (), path)]
    labels = table.select(apart)
    runs = labels.group_by(apart, use_threads=False).aggregate([]).to_pylist()  # in the order in which they come
    found = []
    for run in runs:
        mask = pa.array(np.ones(table.num_rows, dtype=bool))
        for name, value in run.items():
            column = labels[name]
            mask = pc.and_(
                mask, pc.is_null(column) if value is None else pc.equal(column, pa.scalar(value, column.type))
            )
        name = " ".join(str(run[name]) for name in apart if name in RUNS[:5]) or " ".join(map(str, run.values()))
        found.append(_recording(name, table.filter(mask), step, apart, path))
    return found


def _read(path: Path) -> pa.Table:
    kind = path.suffix.lower().removeprefix(".")
    try:
        if kind == "parquet":
            table = pq.read_table(path, use_threads=False)
        else:
            # nan is a loss that is not finite, not one that is missing
            missing = csv.ConvertOptions(null_values=["", "null", "NULL", "NA", "N/A"], strings_can_be_null=True)
            table = csv.read_csv(path, convert_options=missing)
        names = table.column_names
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        name = {"parquet": "Parquet"}.get(kind, "CSV")
        hint = " Columns must be separated by commas, and decimals by points." if name == "CSV" else ""
        raise RecordedError(f"{path}: cannot be read as {name} ({str(error).splitlines()[0]}).{hint}") from error
    kinds = [(_bare(name, PREFIXES + _QUANTITY), name.startswith(PREFIXES)) for name in names]
    twice = next((name for (name, _), kind in zip(kinds, kinds, strict=True) if kinds.count(kind) > 1), None)
    if twice is not None:
        raise RecordedError(f"{path}: two columns are called '{twice}'.")
    if not table.num_rows:
        raise RecordedError(f"{path}: there are no rows below the header.")
    return table


def _recording(name: str, table: pa.Table, step: str | None, labels: Sequence[str], path: Path) -> Recording:
    steps = np.arange(1.0, table.num_rows + 1) if step is None else _numbers(table[step], step, path)
    series: dict[str, Curve] = {}
    settings: dict[str, str] = {}
    changing: list[str] = []
    for column in table.column_names:
        if column == step:
            continue
        values = table[column]
        if column in labels or column.startswith(PREFIXES) or not _is_number(values.type):
            known = values.drop_null().unique()
            if len(known) == 1:
                settings[_bare(column, PREFIXES)] = str(known[0].as_py())
            elif len(known):
                changing.append(_bare(column, PREFIXES))
        else:
            if 1 < len(values.unique()) <= min(MOST_LABELS, len(values) // 2):
                changing.append(_bare(column, _QUANTITY))
            there = values.is_valid().to_numpy()  # a tracker leaves cells empty where another curve has a value
            series[_bare(column, _QUANTITY)] = steps[there], _numbers(values, column, path)[there]
    return Recording(name, series, settings, changing, is_counted=step is None)


def _chart(table: pa.Table, step: str, path: Path) -> Iterator[Recording]:
    steps = _numbers(table[step], step, path)
    runs: dict[str, dict[str, Any]] = {}
    for column in table.column_names:
        found = _OF_A_RUN.fullmatch(column)
        if found is None or found["edge"] or found["quantity"] == "_step":
            continue
        there = table[column].is_valid().to_numpy()
        values = _numbers(table[column], column, path)
        runs.setdefault(found["run"], {})[found["quantity"]] = steps[there], values[there]
    for name, series in runs.items():
        yield Recording(name, series)


def _numbers(values: pa.ChunkedArray, name: str, path: Path) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if not _is_number(values.type):
        raise RecordedError(f"{path}: column '{name}' must hold numbers, got {values.type}.")
    return np.asarray(values.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _bare(column: str, prefixes: Sequence[str]) -> str:
    return next((column.removeprefix(prefix) for prefix in prefixes if column.startswith(prefix)), column)
