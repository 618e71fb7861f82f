"""Losses that were recorded somewhere: a run of ours, a CSV file, TensorBoard's events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lrlab.runs import read_run
from lrlab.runs.storage import INFO

LOSSES = ("train/loss", "loss", "train_loss", "training_loss", "loss/train", "Loss/train", "Value")
"""Names that a training loss goes by; Value is what TensorBoard calls it when it exports one curve."""
STEPS = ("step", "global_step", "Step", "_step", "iteration")


class RecordedError(ValueError):
    """There are no losses to be read."""

    exit_code: ClassVar[int] = 3


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
    """Read recorded training losses.

    Args:
        path: a run, a CSV file with a header, a file of TensorBoard's events, or a folder with such files.
        column: name of the column or tag, where it is not one of the usual ones.
    Raises: RecordedError if there is nothing of the kind, or nothing of that name; StorageError of a run.
    """
    if (path / INFO).exists():
        run = read_run(path)
        name = _choose(run.columns, column, path)
        return _recorded(name, *run.series(name), path)
    if path.is_dir() or "tfevents" in path.name:
        return _read_events(path, column)
    if path.suffix.lower() == ".csv":
        return _read_csv(path, column)
    raise RecordedError(
        f"{path}: no losses here. Name a run, a CSV file with a header, or a folder with TensorBoard's events."
    )


def _read_csv(path: Path, column: str | None) -> Recorded:
    from pyarrow import ArrowInvalid, csv

    try:
        # nan is a loss that is not finite, not one that is missing
        table = csv.read_csv(path, convert_options=csv.ConvertOptions(null_values=["", "null", "NULL", "NA", "N/A"]))
    except (ArrowInvalid, OSError) as error:
        raise RecordedError(f"{path}: cannot be read as CSV ({str(error).splitlines()[0]}).") from error
    name = _choose(table.column_names, column, path)
    values = _numbers(table[name], name, path)
    step = next((step for step in STEPS if step in table.column_names and step != name), None)
    steps = np.arange(1.0, len(values) + 1) if step is None else _numbers(table[step], step, path)
    is_there = table[name].is_valid().to_numpy()  # a tracker leaves cells empty where another curve has a value
    return _recorded(name, steps[is_there], values[is_there], path)


def _numbers(values: Any, name: str, path: Path) -> npt.NDArray[np.float64]:
    try:
        return np.asarray(values.to_numpy(), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise RecordedError(f"{path}: column '{name}' must hold numbers, got {values.type}.") from error


def _read_events(path: Path, column: str | None) -> Recorded:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    if not path.exists():
        raise RecordedError(f"{path}: there is no such file or folder.")
    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    name = _choose([*tags["scalars"], *tags["tensors"]], column, path)
    if name in tags["scalars"]:
        found = [(event.step, event.value) for event in events.Scalars(name)]
    else:
        tensors = [(event.step, make_ndarray(event.tensor_proto)) for event in events.Tensors(name)]
        found = [(step, tensor.item()) for step, tensor in tensors if tensor.size == 1]
    steps, values = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return _recorded(name, steps, values, path)


def _choose(names: Sequence[str], column: str | None, path: Path) -> str:
    """The column that was asked for, or the one that goes by a usual name."""
    if not names:
        raise RecordedError(f"{path}: nothing was recorded here.")
    wanted = LOSSES if column is None else (column,)
    found = next((name for name in wanted if name in names), None)
    if found is None:
        what = "no column of a usual name" if column is None else f"no column '{column}'"
        raise RecordedError(f"{path}: {what}. Say --column; there are: {', '.join(list(names)[:20])}.")
    return found


def _recorded(name: str, steps: npt.NDArray[np.float64], losses: npt.NDArray[np.float64], path: Path) -> Recorded:
    if not len(losses):
        raise RecordedError(f"{path}: column '{name}' is empty.")
    if (np.diff(steps) <= 0).any():
        raise RecordedError(
            f"{path}: the steps of '{name}' must rise from row to row. Is there more than one run in it?"
        )
    return Recorded(name, np.asarray(steps, dtype=np.float64), np.asarray(losses, dtype=np.float64))
