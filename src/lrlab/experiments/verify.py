"""Whether a run can be repeated on this machine: a stretch of it is made again and compared to the byte."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrlab.config import merge, parse_config, to_toml
from lrlab.experiments.run import Experiment
from lrlab.experiments.state import MODEL, STATE
from lrlab.runs import Checkpoint, Run, RunError, lock_run, read_run, sound_checkpoints
from lrlab.runs.storage import CHECKPOINTS, CONFIG, EXPORT, INFO, LOCK, storage_errors, write_json, write_whole
from lrlab.training import DivergedError
from lrlab.training.checkpoint import load_state

_CLOCK = ("seconds", "evaluation_seconds")
"""What differs from one repetition to the next and means nothing."""


MOST_SHOWN = 8
"""Differences that the sentence names."""


@dataclass(frozen=True)
class Verification:
    """What came of repeating a stretch of a run."""

    first: int
    """Update of the checkpoint that it began at."""
    last: int
    """Update of the checkpoint that it was compared with."""
    differences: list[str]
    """What was not the same."""

    @property
    def sentence(self) -> str:
        """Say it in words."""
        stretch = f"updates {self.first + 1:,} to {self.last:,}"
        if self.differences:
            more = f"; and {len(self.differences) - MOST_SHOWN} more" if len(self.differences) > MOST_SHOWN else ""
            return f"{stretch} repeated with differences: {'; '.join(self.differences[:MOST_SHOWN])}{more}"
        return f"{stretch} repeated: weights, state, rows, evaluations and decisions are the same to the bit"


def verify_run(directory: Path | str) -> Verification:
    """Repeat the stretch between the last two sound checkpoints of a run, in a copy of it, and compare.

    The copy goes on as `lrlab resume` does, so what is tried is the resuming itself. The run is not touched.

    Raises: RunError if it has no two sound checkpoints; LockedError if another process is at work on it; what
        `Experiment` and its `run` raise.
    """
    directory = Path(directory)
    parse_config(dict(read_run(directory).config))  # says so if there is none, or one that was made elsewhere
    has_lock = (directory / LOCK).exists() and os.access(directory, os.W_OK)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        with lock_run(directory) if has_lock else nullcontext():  # what is copied must not change meanwhile
            made, first, last = _copied(directory, copy)
        # saved at that very update; computed with as many threads, on which the last bits depend, in what auto was
        engine = {key: made.info["engine"][key] for key in ("threads", "precision")}
        changed: dict[str, Any] = {"checkpoint": {"every": last.step}, "engine": engine}
        if "dir" in made.config["data"]:  # where the images lie now
            changed["data"] = {"dir": made.config["data"]["dir"]}
        # else as it was then: the run may have been made longer since
        config = merge(tomllib.loads(last.files[CONFIG].decode()), changed)
        write_whole(copy / CONFIG, to_toml(parse_config(config)).encode())
        write_json(copy / INFO, {**made.info, "status": "preempted"})  # one that is over would not go on
        _go_on(copy, first.step, last)
        again = next(one for one in sound_checkpoints(copy) if one.step == last.step)
        return Verification(first.step, last.step, list(differences(made, last, read_run(copy), again)))


def _copied(directory: Path, copy: Path) -> tuple[Run, Checkpoint, Checkpoint]:
    """Copy a run but for its last checkpoint; return it, and its last two checkpoints, the older one first."""
    made = read_run(directory)
    checkpoints = sound_checkpoints(directory)
    if len(checkpoints) < 2:
        raise RunError(
            f"{directory}: verify needs two intact checkpoints, and this run has {len(checkpoints)}. "
            "Train with --set checkpoint.every=N to get more."
        )
    if made.num_ranks > 1:
        raise RunError(
            f"{directory}: made by {made.num_ranks} ranks. verify repeats in one process, which sums in another order: "
            "the last digits would differ. Only a run of one process can be verified."
        )
    last, first = checkpoints[:2]
    with storage_errors(directory):
        shutil.copytree(directory, copy, ignore=shutil.ignore_patterns(last.path.name, LOCK, "*.png", "*.html", EXPORT))
    return made, first, last


def _go_on(copy: Path, first: int, last: Checkpoint) -> None:
    """Make the updates after `first` again, up to the checkpoint and with the evaluation at it, if it had one."""
    steps = count(first + 1)
    is_stop = _evaluated_at(last) < last.step  # a run that is stopped is saved there before it is evaluated
    experiment = Experiment(parse_config(dict(read_run(copy).config)))
    events = experiment.run(copy, resumes=True, stop=lambda: int(next(steps) == last.step and is_stop))
    try:
        with closing(events):
            for event in events:
                if event.step > last.step:  # what came at that update, its evaluation and its checkpoint, is done
                    break
    except DivergedError as error:
        if error.step <= last.step:
            raise


def _evaluated_at(checkpoint: Checkpoint) -> int:
    """The update of the last evaluation before a checkpoint was written."""
    return int(load_state(checkpoint.files[STATE])["session"]["evaluated_at"])


def differences(made: Run, one: Checkpoint, repeated: Run, other: Checkpoint) -> Iterator[str]:
    """Yield what is not the same, to the bit, of two runs up to an update of which both have a checkpoint.

    Args:
        made: one run.
        one: its checkpoint.
        repeated: the other run.
        other: its checkpoint.
    """
    if one.files[MODEL] != other.files[MODEL]:
        yield f"{CHECKPOINTS}: {MODEL} ({_digest(one.files[MODEL])} and {_digest(other.files[MODEL])})"
    yield from _state_differences(load_state(one.files[STATE]), load_state(other.files[STATE]), STATE)
    columns = [column for column in made.columns if column not in made.later_columns]
    rows, rows_again = made.all_series(columns), repeated.all_series(columns)
    for column in columns:
        (steps, values), (steps_again, values_again) = rows[column], rows_again[column]
        within, within_again = steps <= one.step, steps_again <= one.step
        if not np.array_equal(steps[within], steps_again[within_again]) or not np.array_equal(
            values[within], values_again[within_again], equal_nan=True
        ):
            yield f"rows: {column}"
    # an evaluation that was due where a run was stopped is made when it goes on
    for what, until in (("evaluations", _evaluated_at(one)), ("decisions", one.step)):
        records, again = (
            [_timeless(record) for record in getattr(run, what)() if record["step"] <= until]
            for run in (made, repeated)
        )
        if records != again:
            yield what


def _state_differences(one: Any, other: Any, place: str) -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping) and one.keys() == other.keys():
        for key in one:
            if key not in _CLOCK:
                yield from _state_differences(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for position, (part, again) in enumerate(zip(one, other, strict=True)):
            yield from _state_differences(part, again, f"{place}[{position}]")
    elif isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.dtype != other.dtype or one.shape != other.shape or _bits(one) != _bits(other):
            yield place
    elif one != other and not (one != one and other != other):  # nan is the same as nan
        yield place


def _bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()  # a nan, and a zero's sign, count too


def _timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _CLOCK}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
