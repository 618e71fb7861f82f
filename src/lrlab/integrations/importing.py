"""From runs that others recorded to runs of ours: which arm and seed each is, and which of its quantities are what."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lrlab.integrations.recorded import ACCURACIES, LOSSES, PREFIXES, RecordedError, Recording, read_decisions
from lrlab.runs.elsewhere import Curve, MadeElsewhere, folder_name

RENAMED: Final = {"step": "recorded/step"}
"""Quantities whose names mean something else in a run of ours."""
RUN: Final = "run"
"""What tells any two runs apart: their names."""


@dataclass(frozen=True)
class Reading:
    """How recordings are to be read."""

    arm: str | None = None
    """Setting that says which arm a run is of, or run for its name; None for one run by itself."""
    seed: str = "seed"
    """Setting that says its seed, or the seed itself."""
    accuracy: str | None = None
    """Quantity; None: the first of ACCURACIES that is there."""
    loss: str | None = None
    """Quantity; None: the first of the usual names that is there."""
    split: str | None = None
    """test or validation; None: as the accuracy is called."""
    in_percent: bool = False
    """Whether accuracies are given in per cent."""
    decisions: Path | None = None
    """File of what a rule decided, in one run by itself."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Settings that tell runs apart, where they are columns of a table."""
        return (self.seed,) if self.arm is None else (self.arm, self.seed)


def plan_import(recordings: Sequence[Recording], reading: Reading, *, source: Path, out: Path) -> list[MadeElsewhere]:
    """Say which runs of ours recordings become.

    Args:
        recordings: those of one source.
        reading: how they are to be read.
        source: where they came from.
        out: directory of the run, or folder of the study whose members they are to be.
    Raises: RecordedError that names the recording for what is not there, or cannot be.
    """
    if reading.arm is not None and reading.decisions is not None:
        raise RecordedError("--decisions is for a single run, and --arm for several. Leave one out.")
    if reading.arm is None and len(recordings) > 1:
        names = ", ".join(one.name for one in recordings[:10])
        raise RecordedError(
            f"{source}: {len(recordings)} runs ({names}). Name the setting that distinguishes the arms with --arm: "
            f"{_keys(recordings)}."
        )
    recordings = _with_numbers(recordings, source)
    decisions = [] if reading.decisions is None else read_decisions(reading.decisions)
    shared = _shared(recordings, reading, source)
    made = []
    for one in recordings:
        seed, arm = _seed(one, reading, source), _arm(one, reading, source)
        directory = out if arm is None else out / folder_name(arm) / f"seed{seed}"
        accuracy_name = _find(one, reading.accuracy, ACCURACIES, source)
        loss_name = _find(one, reading.loss, LOSSES, source)
        if accuracy_name is not None and accuracy_name == loss_name:
            raise RecordedError(f"{_place(one, source)}: '{loss_name}' cannot be both the loss and the accuracy.")
        curves = _curves(_named(one, loss_name, source), one, source, needed={"train/loss", accuracy_name})
        accuracy = (
            None if accuracy_name is None else _accuracy(accuracy_name, curves[accuracy_name], one, reading, source)
        )
        split = reading.split or ("validation" if (accuracy_name or "").startswith(("val", "eval")) else "test")
        kept = shared[arm]
        made.append(
            MadeElsewhere(
                directory,
                seed,
                curves,
                accuracy,
                split,
                {key: value for key, value in one.settings.items() if key in kept},
                {
                    "from": str(source),
                    "run": one.name,
                    "arm": arm,
                    "accuracy": accuracy_name,
                    "loss": loss_name,
                    "rows_counted": one.is_counted,
                    "settings_of_this_run": {key: value for key, value in one.settings.items() if key not in kept},
                },
                decisions,
                one.status or "complete",
            )
        )
    _warn_of_ends_apart(made, source)
    _check_arms([made_one.origin["arm"] for made_one in made], source)
    return made


def _warn_of_ends_apart(made: Sequence[MadeElsewhere], source: Path) -> None:
    """Warn where runs that are to be compared end at different updates: by all that is known they are all complete."""
    ends: dict[int, list[str]] = {}
    for one in made:
        if one.status == "complete" and one.accuracy is not None:
            ends.setdefault(int(one.accuracy[0][-1]), []).append(str(one.origin["run"] or one.directory.name))
    if len(ends) > 1:
        last = max(ends)
        early = "; ".join(f"{', '.join(runs[:5])} at {step:,}" for step, runs in sorted(ends.items()) if step != last)
        warnings.warn(
            f"{source}: the longest runs have a last accuracy at update {last:,}, but {early}. If those were cut "
            "short, leave them out: a comparison treats every run as complete.",
            stacklevel=3,
        )


def _with_numbers(recordings: Sequence[Recording], source: Path) -> Sequence[Recording]:
    """Leave out the runs, of several, that a tracker knows by name alone: they failed before their first value."""
    kept = [one for one in recordings if any(len(steps) for steps, _ in one.series.values())]
    if kept and len(kept) < len(recordings):
        names = ", ".join(one.name for one in recordings if one not in kept)
        warnings.warn(f"{source}: left out, since no numbers were recorded in them: {names}.", stacklevel=3)
        return kept
    return recordings


def _keys(recordings: Sequence[Recording]) -> str:
    """What may tell arms apart: the runs' names, their settings, and columns of text that change within them."""
    there = {key for one in recordings for key in (*one.settings, *one.labels)} - {RUN, "epoch", *LOSSES, *ACCURACIES}
    names = [RUN] if any(one.name for one in recordings) else []
    return ", ".join([*names, *sorted(there)[:20]]) or "none"


def _arm(one: Recording, reading: Reading, source: Path) -> str | None:
    return None if reading.arm is None else _setting(one, reading.arm, source)


def _setting(one: Recording, key: str, source: Path) -> str:
    if key == RUN and one.name:
        return one.settings.get(key, one.name)
    bare = next((key.removeprefix(prefix) for prefix in PREFIXES if key.startswith(prefix)), key)
    if bare not in one.settings:
        raise RecordedError(f"{_place(one, source)}: no setting '{key}'. It has: {_keys([one])}.")
    return one.settings[bare]


def _seed(one: Recording, reading: Reading, source: Path) -> int:
    if not reading.seed.isdecimal() and reading.seed not in one.settings and reading.arm is None:
        raise RecordedError(f"{_place(one, source)}: no setting '{reading.seed}' holds its seed. Add --seed N.")
    text = reading.seed if reading.seed.isdecimal() else _setting(one, reading.seed, source)
    text = text.removesuffix(".0")  # pandas makes such numbers of a column with gaps
    if not text.isdecimal():
        raise RecordedError(f"{_place(one, source)}: its seed must be a whole number, got '{text}'.")
    return int(text)


def _shared(recordings: Sequence[Recording], reading: Reading, source: Path) -> Mapping[str | None, set[str]]:
    """The settings that all runs of an arm have alike, besides its name and the seed: those by which arms differ."""
    kept: dict[str | None, dict[str, str]] = {}
    for one in recordings:
        arm = _arm(one, reading, source)
        known = kept.setdefault(arm, dict(one.settings))
        kept[arm] = {key: value for key, value in known.items() if one.settings.get(key) == value}
    return {arm: {key for key in known if key not in (reading.arm, reading.seed)} for arm, known in kept.items()}


def _named(one: Recording, loss: str | None, source: Path) -> dict[str, Curve]:
    """The quantities of a recording that hold something, by the names that they have with us."""
    named: dict[str, Curve] = {}
    for name, curve in one.series.items():
        ours = "train/loss" if name == loss else RENAMED.get(name, name)
        if ours in named or (ours != name and ours in one.series):
            raise RecordedError(
                f"{_place(one, source)}: '{name}' would become '{ours}', which exists. Rename one of them, or "
                f"name the training loss by --loss."
            )
        if len(curve[0]):
            named[ours] = curve
    if not named:
        raise RecordedError(
            f"{_place(one, source)}: no numbers were recorded here. Its settings, or text: "
            f"{', '.join(sorted(one.settings)[:20]) or 'none'}. Columns of a CSV file are separated by commas."
        )
    return named


def _find(one: Recording, name: str | None, usual: Sequence[str], source: Path) -> str | None:
    """The quantity that was asked for, or the first that goes by a usual name; either must have been measured."""
    there = [known for known, (steps, _) in one.series.items() if len(steps)]
    if name is not None and name not in there:
        raise RecordedError(
            f"{_place(one, source)}: no quantity '{name}'. It has: {', '.join(sorted(there)[:20]) or 'none'}."
        )
    return name or next((known for known in usual if known in there), None)


def _accuracy(name: str, curve: Curve, one: Recording, reading: Reading, source: Path) -> Curve:
    steps, values = curve
    values = values / 100 if reading.in_percent else values
    if np.isnan(values).any():
        raise RecordedError(
            f"{_place(one, source)}: '{name}' is not a number at step {steps[np.isnan(values)][0]:g}. If the run "
            "diverged there, leave out all rows from there on, or the run."
        )
    wrong = values[~((values >= 0) & (values <= 1))]
    if len(wrong):
        raise RecordedError(
            f"{_place(one, source)}: an accuracy must be between 0 and 1, but '{name}' has {wrong[0]:g}. Add --percent "
            "if it is in per cent, or --accuracy NAME for another quantity."
        )
    return steps, values


def _curves(series: Mapping[str, Curve], one: Recording, source: Path, *, needed: set[str | None]) -> dict[str, Curve]:
    """The curves of a run; one that cannot be is left out, and warned of, where what is needed is there."""
    kept: dict[str, Curve] = {}
    problems = []
    for name, (steps, values) in series.items():
        # Lightning and Transformers log a row of training and one of evaluation at a step, both with the epoch
        is_new = np.append(True, (np.diff(steps) != 0) | (np.diff(values) != 0))
        kept[name] = steps[is_new], values[is_new]
        if (problem := _problem(kept[name][0], one)) is not None:
            problem = f"{_place(one, source)}: the steps of '{name}' must {problem}"
            if name in needed or not needed & series.keys():
                raise RecordedError(problem)
            problems.append(problem)
            del kept[name]
    for problem in problems:
        warnings.warn(f"left out: {problem}", stacklevel=3)
    return kept


def _problem(steps: npt.NDArray[np.float64], one: Recording) -> str | None:
    if (np.diff(steps) <= 0).any():
        hint = f"name what distinguishes them with --arm or --seed: {_keys([one])}."
        return f"rise. If there is more than one run in it, {hint}"
    if (steps != np.floor(steps)).any() or (steps < 0).any():
        return "be whole numbers from 0, as updates are."
    return None


def _check_arms(arms: Sequence[str | None], source: Path) -> None:
    folders: dict[str, str] = {}
    for arm in arms:
        if arm is not None and (other := folders.setdefault(folder_name(arm).casefold(), arm)) != arm:
            why = "" if folder_name(other) == folder_name(arm) else ", on file systems that ignore case"
            raise RecordedError(f"{source}: arms '{other}' and '{arm}' would have one folder, {folder_name(arm)}{why}.")


def _place(one: Recording, source: Path) -> str:
    return f"{source}: run '{one.name}'" if one.name else str(source)
