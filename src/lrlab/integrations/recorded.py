"""Runs that others recorded: a run of ours, tables, TensorBoard's events, what MLflow and trackio keep."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt

from lrlab.runs import read_run
from lrlab.runs.elsewhere import Curve
from lrlab.runs.storage import INFO

ACCURACIES: Final = (
    "test/accuracy", "test_accuracy", "test_acc", "test/acc", "result/test_accuracy", "validation/accuracy",
    "validation_accuracy", "val_accuracy", "val_acc", "val/accuracy", "val/acc", "eval_accuracy", "eval/accuracy",
    "accuracy",
)  # fmt: skip
"""Names that the accuracy on images not trained on goes by."""
LOSSES: Final = ("train/loss", "loss", "train_loss", "training_loss", "loss/train", "Loss/train", "Value")
"""Names that a training loss goes by; Value is what TensorBoard calls it when it exports one curve."""
PREFIXES: Final = ("params.", "config.", "config/")
"""What stands before the names of settings in a table."""


class RecordedError(ValueError):
    """There is nothing to be read, or not what was asked for."""

    exit_code: ClassVar[int] = 3


@dataclass(frozen=True)
class Recording:
    """A run as another program recorded it."""

    name: str
    """As it is called there; empty where there is only one, without a name."""
    series: Mapping[str, Curve]
    """Quantity -> where it was measured, and what it was."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What does not change in a run, as text: its configuration."""
    labels: Sequence[str] = ()
    """Columns that change within it, of text or of a few numbers: one may tell apart runs that are one here."""
    is_counted: bool = False
    """Whether its rows were counted, since nothing says of which update they are."""
    status: Literal["complete", "preempted", "diverged", "failed"] | None = None
    """How it ended, where that is on record."""


@dataclass(frozen=True)
class Recorded:
    """Losses as they were recorded."""

    name: str
    """Of the column or tag."""
    steps: npt.NDArray[np.float64]
    """Update of each, (n,), rising."""
    losses: npt.NDArray[np.float64]
    """(n,), oldest first; none is missing, but they may not be finite."""


def read_losses(path: Path, column: str | None = None) -> Recorded:
    """Read recorded training losses of one run.

    Args:
        path: as of `read_recordings`, or a run of ours.
        column: name of the column or tag, where it is not one of the usual ones.
    Raises: RecordedError if there is nothing of the kind, nothing of that name, or more than one run; StorageError.
    """
    if (path / INFO).exists():
        run = read_run(path)
        name = _choose(run.columns, column, path)
        return _recorded(name, *run.series(name), path)
    if any(path.glob(f"*/seed*/{INFO}")) or any(path.glob(f"*/{INFO}")):
        raise RecordedError(f"{path}: it holds several runs. Name one of those that lrlab runs lists.")
    found = read_recordings(path)
    if len(found) > 1:
        names = ", ".join(recording.name for recording in found[:10])
        raise RecordedError(
            f"{path}: it holds {len(found)} runs ({names}). Import them with lrlab import, and replay one of them."
        )
    name = _choose(list(found[0].series), column, path)
    return _recorded(name, *found[0].series[name], path)


def read_base_lr(path: Path) -> float | None:
    """Return the base rate of a run of ours; None of other recordings, and where it is not on record.

    Raises: StorageError.
    """
    return read_run(path).base_lr if (path / INFO).exists() else None


def read_recordings(path: Path, *, keys: Sequence[str] = (), project: str | None = None) -> list[Recording]:
    """Read the runs that another program recorded.

    Args:
        path: a CSV or Parquet file, a file or folder of TensorBoard's events, a database of MLflow's or trackio's, or
            a folder of MLflow's.
        keys: further columns of a table that tell its runs apart, and are settings of theirs; params. and config.
            before a name may be left out.
        project: experiment of MLflow's, where there are several.
    Raises: RecordedError if there is nothing of the kind.
    """
    if not path.exists():
        raise RecordedError(f"{path}: there is no such file or folder.")
    if path.suffix.lower() in (".csv", ".parquet"):
        from lrlab.integrations.tables import read_table

        return read_table(path, keys=keys)
    if _is_mlflow(path):
        try:
            from lrlab.integrations.mlflow import read_mlflow
        except ImportError as error:
            raise RecordedError(f"{path}: reading it needs MLflow ({error}): pip install 'lrlab[trackers]'.") from error
        return read_mlflow(path, experiment=project)
    if project is not None:
        raise RecordedError(f"{path}: --project is for MLflow data, which this is not. Leave it out.")
    if path.suffix == ".db":
        from lrlab.integrations.trackio import read_trackio

        return read_trackio(path)
    if path.is_dir() or "tfevents" in path.name:
        from lrlab.integrations.tensorboard import read_events

        return read_events(path)
    raise RecordedError(
        f"{path}: unknown format. Name a CSV or Parquet file with a header, TensorBoard events, or a database of "
        "MLflow or trackio."
    )


def read_decisions(path: Path) -> list[dict[str, Any]]:
    """Read what a rule decided, as a loop wrote it: a line of JSON for each decision of `take_decisions`.

    Raises: RecordedError that names the first line which is none, or is older than the one before it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordedError(f"{path}: cannot be read as a text file ({error}).") from error
    decisions: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        found = _decision(line)
        if found is None:
            raise RecordedError(
                f"{path}, line {number}: must be one decision of take_decisions(), as json.dumps writes it, got "
                f"{line[:60]!r}."
            )
        if decisions and found["step"] < decisions[-1]["step"]:
            raise RecordedError(
                f"{path}, line {number}: decisions must be of one run, oldest first, but step {found['step']:,} comes "
                f"after step {decisions[-1]['step']:,}."
            )
        decisions.append(found)
    return decisions


def as_curve(points: Sequence[tuple[float, float]]) -> Curve:
    """Return points (step, value) as a curve."""
    steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
    return steps, values


def _is_mlflow(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*/meta.yaml"))
    if path.suffix != ".db":
        return False
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error as error:
        raise RecordedError(f"{path}: cannot be read as a database ({error}).") from error
    return "experiments" in names


def _decision(line: str) -> dict[str, Any] | None:
    """The decision that a line holds; None if it holds none."""
    try:
        found = json.loads(line)
        rates = [*found["lr_before"], *found["lr_after"]]
        is_one = isinstance(found["step"], int) and all(isinstance(found[key], str) for key in ("rule", "decision"))
    except (ValueError, TypeError, KeyError):
        return None
    return found if is_one and rates and all(isinstance(rate, int | float) for rate in rates) else None


def _choose(names: Sequence[str], column: str | None, path: Path) -> str:
    """The column that was asked for, or the one that goes by a usual name."""
    if not names:
        raise RecordedError(f"{path}: no numbers were recorded here.")
    wanted = LOSSES if column is None else (column,)
    found = next((name for name in wanted if name in names), None)
    if found is None:
        what = "no column has a usual name" if column is None else f"no column '{column}'"
        raise RecordedError(f"{path}: {what}. Name the loss with --column: {', '.join(list(names)[:20])}.")
    return found


def _recorded(name: str, steps: npt.NDArray[np.float64], losses: npt.NDArray[np.float64], path: Path) -> Recorded:
    if not len(losses):
        raise RecordedError(f"{path}: column '{name}' is empty.")
    if (np.diff(steps) <= 0).any():
        raise RecordedError(
            f"{path}: the steps of '{name}' must rise from row to row. If it holds several runs, use lrlab "
            "import --arm with the column that distinguishes them, and replay one of them."
        )
    return Recorded(name, np.asarray(steps, dtype=np.float64), np.asarray(losses, dtype=np.float64))
