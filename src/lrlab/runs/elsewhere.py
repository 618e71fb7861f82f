"""Runs that were made elsewhere, written as run directories, so that all that reads runs reads them too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tomli_w

from lrlab.runs import storage
from lrlab.runs.environment import describe_environment
from lrlab.runs.rows import write_part

Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Steps, (n,), rising, and the values there, (n,)."""


@dataclass(frozen=True)
class MadeElsewhere:
    """What is known of a run that was made elsewhere."""

    directory: Path
    """To be made."""
    seed: int
    series: Mapping[str, Curve]
    """Column -> where it was measured, and what it was; `train/loss` is one of them where it is known."""
    accuracy: Curve | None
    """Of each evaluation, as a share of 1."""
    split: str
    """Images that the accuracy is of: test or validation."""
    settings: Mapping[str, str]
    """By dotted name; the same for all runs of its arm."""
    origin: Mapping[str, Any]
    """Where it came from, for run.json."""
    decisions: Sequence[Mapping[str, Any]] = ()
    """What a rule decided in it, oldest first."""
    status: str = "complete"
    """How it ended, as a run of ours does."""


def write_elsewhere(runs: Sequence[MadeElsewhere], *, study: Path | None) -> None:
    """Write runs that were made elsewhere; none is written if the place of one is taken.

    Args:
        runs: each with a directory of its own.
        study: folder whose members they are; None for a run by itself.
    Raises: RunError if there is something in a directory, or if two runs want the same one; StorageError.
    """
    taken: dict[Path, MadeElsewhere] = {}
    for run in runs:
        with storage.storage_errors(run.directory):
            if run.directory.exists() and any(run.directory.iterdir()):
                raise storage.RunError(f"{run.directory} is not empty. Choose another folder with --out.")
        if run.directory in taken:
            names = " and ".join(f"'{one.origin['run']}'" for one in (taken[run.directory], run))
            raise storage.RunError(f"{names} would both be {run.directory}: runs of one arm need different seeds.")
        taken[run.directory] = run
    if study is not None:
        if (study / storage.STUDY).exists():
            raise storage.RunError(f"{study} is a study already. Choose another folder with --out.")
        with storage.storage_errors(study):
            study.mkdir(parents=True, exist_ok=True)
        storage.write_whole(study / storage.STUDY, tomli_w.dumps({"name": study.resolve().name}).encode())
    for run in runs:
        _write(run)


def folder_name(text: str) -> str:
    """Return a text as the name of a folder: what may not stand in one is a dash."""
    return re.sub(r"[^\w.=+-]+", "-", text).strip("-.") or "run"


def _write(run: MadeElsewhere) -> None:
    with storage.storage_errors(run.directory):
        (run.directory / storage.METRICS).mkdir(parents=True, exist_ok=True)
    rows = _rows(run.series)
    write_part(storage.part_path(run.directory, 1), rows)
    evaluations = [
        {"step": int(step), "split": run.split, "loss": None, "accuracy": float(value)}
        for step, value in (zip(*run.accuracy, strict=True) if run.accuracy else ())
    ]
    storage.append_json_lines(run.directory / storage.EVALUATIONS, evaluations)
    storage.append_json_lines(run.directory / storage.DECISIONS, [dict(decision) for decision in run.decisions])
    config = {
        "seed": run.seed,
        **{part: {"name": storage.ELSEWHERE} for part in ("data", "model", "schedule")},
        storage.ELSEWHERE: dict(run.settings),
    }
    storage.write_whole(run.directory / storage.CONFIG, tomli_w.dumps(config).encode())
    figures = {f"{run.split}_accuracy": evaluations[-1]["accuracy"] if evaluations else None}
    steps = int(max([0.0, *(at[-1] for at, _ in (*run.series.values(), *filter(None, [run.accuracy])) if len(at))]))
    info = {  # last: from now on it is a run
        "format_version": storage.FORMAT_VERSION,
        "status": run.status,
        "environment": {"command": describe_environment()["command"]},
        storage.ELSEWHERE: {**run.origin, "split": run.split},
        "result": {"steps": steps, **figures},
    }
    storage.write_json(run.directory / storage.INFO, info)


def _rows(series: Mapping[str, Curve]) -> pa.Table:
    steps = np.unique(np.concatenate([found for found, _ in series.values()] or [np.empty(0)]))
    columns: dict[str, pa.Array] = {"step": pa.array(steps.astype(np.int64))}
    for name, (at, values) in series.items():
        column = np.full(len(steps), np.nan)
        is_there = np.isin(steps, at)
        column[is_there] = values
        columns[name] = pa.array(column, mask=~is_there)
    return pa.table(columns)
