"""Which measure runs are compared by, from the name it is asked for, and the targets that it is to reach."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final

from lrlab.compare.measures import CompareError, Measure, OfEvaluations, OfRows
from lrlab.config.parts import did_you_mean, unknown
from lrlab.runs import Run
from lrlab.runs.afterwards import GENERALISATION, SHARPNESS, figures

KINDS: Final = ("accuracy", "loss", "accuracy_mirror")
MOST_COLUMNS: Final = 10
"""Columns that an error names one by one."""


def choose_measure(name: str | None, runs: Sequence[Run]) -> Measure:
    """Return the measure of that name; without one, the accuracy on the images that the runs were evaluated on.

    Raises: CompareError if no such measure is known, or if the runs were evaluated on different images.
    """
    splits = sorted({run.evaluated_split for run in runs})
    if name is None and len(splits) > 1:
        raise CompareError("Some runs were evaluated on test, some on validation images: compare them separately.")
    known = {measure.name: measure for split in splits for kind in KINDS for measure in [OfEvaluations(split, kind)]}
    if name is not None and name not in known and ("/" in name or any(name in run.columns for run in runs)):
        return _of_rows(name, runs)
    if name is not None and name not in known:
        alike = [*difflib.get_close_matches(name, known, n=1, cutoff=0.5), *_columns_called(name, runs)]
        hint = f" Did you mean {' or '.join(map(repr, alike))}?" if alike else ""
        raise CompareError(f"Unknown measure '{name}'. There are: {list_measures(runs) or 'none'}.{hint}")
    return known[name or f"{splits[0]}_accuracy"]


def list_measures(runs: Sequence[Run]) -> str:
    """Name what the runs have: figures of their last evaluation, then the columns of their rows, or groups of many."""
    measures = (OfEvaluations(split, kind) for split in sorted({run.evaluated_split for run in runs}) for kind in KINDS)
    names = [measure.name for measure in measures if any(measure.final(run) is not None for run in runs)]
    columns = sorted(_columns(runs))
    if len(columns) > MOST_COLUMNS:
        columns = sorted({name if "/" not in name else f"{name.split('/')[0]}/*" for name in columns})
    return ", ".join([*names, *columns])


def _columns(runs: Sequence[Run]) -> set[str]:
    beside = {f"{GENERALISATION}/{figure}" for run in runs for figure in figures(run.info.get(GENERALISATION) or {})}
    return beside | {column for run in runs for column in run.columns} - {"step", "epoch"}


def _columns_called(name: str, runs: Sequence[Run]) -> list[str]:
    """The columns whose last word is a name: train/loss for loss."""
    return [column for column in sorted(_columns(runs)) if column.rpartition("/")[2] == name]


def _of_rows(name: str, runs: Sequence[Run]) -> Measure:
    found = OfRows(name)
    if all(found.final(run) is None for run in runs):
        if name in _columns(runs):
            raise CompareError(f"No run ends in a {name} that is finite.")
        hint = did_you_mean(name, sorted(_columns(runs)))
        raise CompareError(f"No run has measured '{name}'. There are: {list_measures(runs) or 'none'}.{hint}")
    compared = [run for run in runs if run.status == "complete" and found.final(run) is not None]
    hows = {json.dumps(_measured_how(name, run), sort_keys=True) for run in compared}
    if len(hows) > 1:
        raise CompareError(f"{name} was measured differently: {' and '.join(sorted(hows))}. Measure again.")
    _check_same_updates(found, [run for run in compared if _is_of_later(name, run)])
    return found


def _is_of_later(name: str, run: Run) -> bool:
    """Whether a quantity was measured once a run was made, at updates that whoever measured it chose."""
    return name.startswith(f"{GENERALISATION}/") or name in run.later_columns


def _check_same_updates(measure: OfRows, runs: Sequence[Run]) -> None:
    """Refuse what was measured at other updates, whether they are counted from the first one or from the last."""
    found = [(run, measure.updates(run)) for run in runs]
    for (one, ours), (other, theirs) in combinations(found, 2):
        if ours == theirs or [one.last_step - step for step in ours] == [other.last_step - step for step in theirs]:
            continue
        places = " and ".join(
            f"that of {run.directory} is of update {', '.join(f'{step:,}' for step in steps)} of {run.last_step:,}"
            for run, steps in ((one, ours), (other, theirs))
        )
        raise CompareError(
            f"{measure.name} was not measured at the same updates of all runs: {places}. Measure all at the same ones, "
            "or all at their last."
        )


def _measured_how(name: str, run: Run) -> Any:
    """What must be the same for two values to be of one quantity."""
    if name.startswith(f"{GENERALISATION}/"):
        finding = run.info[GENERALISATION]
        probe = finding.get("linear_probe")
        about_probe = {"probe": probe["data"]} if probe and "linear_probe" in name else {}
        return {key: finding.get(key) for key in ("split", "images")} | about_probe
    return run.info.get(SHARPNESS) if name in run.later_columns else None


def read_targets(texts: Sequence[str], measure: Measure, tasks: Sequence[str]) -> dict[str, float]:
    """Read targets, NUMBER for all tasks or TASK=NUMBER for one; return task -> target.

    Raises: CompareError for what is no such thing.
    """
    if texts and measure.better is None:
        raise CompareError(f"--target: {measure.name} can have none, since neither more nor less of it is better.")
    found: dict[str, float] = {}
    for text in texts:
        task, equals, number = text.rpartition("=")
        if equals and task not in tasks:
            raise CompareError(unknown("study", task, tasks))
        try:
            target = float(number)
        except ValueError:
            raise CompareError(f"--target {text}: must be a number, or STUDY=NUMBER.") from None
        if measure.is_accuracy and not 0 < target <= 1:
            raise CompareError(f"--target {text}: an accuracy must be above 0 and at most 1, as in --target 0.9.")
        if not measure.is_accuracy and not 0 < target < float("inf"):
            raise CompareError(f"--target {text}: a loss must be above 0 and finite.")
        found |= {task: target} if equals else {name: target for name in tasks if name not in found}
    return found
