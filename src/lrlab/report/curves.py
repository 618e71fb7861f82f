"""What is drawn of a run: its series and its decays, and how a series is smoothed, thinned and summed up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lrlab.runs import Run

Series = npt.NDArray[np.float64]


class Curve(NamedTuple):
    """Values over updates, oldest first; no value is nan."""

    steps: Series
    values: Series


def by_arm(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by their arm, in the order in which the arms come."""
    arms: dict[str, list[Run]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(run)
    return arms


def read_column(run: Run, column: str) -> Curve:
    """Return a recorded quantity where it is finite; nothing if the run has no such column."""
    if column not in run.columns:
        return Curve(np.empty(0), np.empty(0))
    steps, values = run.series(column)
    finite = np.isfinite(values)
    return Curve(steps[finite], values[finite])


def read_accuracy(run: Run) -> Curve:
    """Return the accuracy at each evaluation."""
    evaluations = read_evaluations(run)
    steps = [float(evaluation["step"]) for evaluation in evaluations]
    return Curve(np.array(steps), np.array([float(evaluation["accuracy"]) for evaluation in evaluations]))


def read_evaluations(run: Run) -> list[dict[str, Any]]:
    """Return the evaluations of the run's split, oldest first."""
    return [evaluation for evaluation in run.evaluations() if evaluation["split"] == run.evaluated_split]


def split_name(runs: Sequence[Run]) -> str:
    """Return the split that all runs were evaluated on, in words: test, validation, or both."""
    return " or ".join(sorted({run.evaluated_split for run in runs}))


def mirror_accuracy(run: Run) -> float | None:
    """Return the last accuracy with logits averaged over mirror images; None if the run has none."""
    evaluations = read_evaluations(run)
    mirror = evaluations[-1].get("mirror") if evaluations else None
    return float(mirror["accuracy"]) if mirror else None


def last_step(run: Run) -> int:
    """Return the last update on record, 0 if there is none."""
    steps = read_column(run, "step").steps
    return int(steps[-1]) if len(steps) else 0


def decay_steps(run: Run) -> tuple[list[int], list[int]]:
    """Return the updates of the decays that moved a rate, and of those that did not, the rate being at its floor."""
    decays = [decision for decision in run.decisions() if decision["decision"] == "decay"]
    moved = [int(decay["step"]) for decay in decays if decay["lr_before"] != decay["lr_after"]]
    at_floor = [int(decay["step"]) for decay in decays if decay["lr_before"] == decay["lr_after"]]
    return moved, at_floor


def smoothing_window(num_values: int) -> int:
    """Return how many values a smoothed one rests on: about a fortieth of them, in steps of 1, 2 and 5; at least 1."""
    wanted = max(1, num_values // 40)
    magnitude: int = 10 ** (len(str(wanted)) - 1)
    return max(size for size in (magnitude, 2 * magnitude, 5 * magnitude) if size <= wanted)


def smooth(curve: Curve, window: int) -> Curve:
    """Return the mean of each value and those before it, `window` in all; of as many as there are at the start.

    A window reaches over the end of one block of `window` values and the start of the next, so its sum is that of
    a suffix and a prefix. Nothing is ever subtracted: a huge value leaves no rounding error behind once it is past.
    """
    num_values = len(curve.values)
    blocks = np.zeros((num_values // window + 1, window))
    blocks.flat[:num_values] = curve.values
    prefixes = blocks.cumsum(axis=1).ravel()[:num_values]
    suffixes = blocks[:, ::-1].cumsum(axis=1)[:, ::-1].ravel()[:num_values]
    sums = prefixes.copy()
    is_block_end = np.arange(window - 1, num_values) % window == window - 1  # the window is a whole block
    sums[window - 1 :] += np.where(is_block_end, 0.0, suffixes[: max(0, num_values - window + 1)])
    return Curve(curve.steps, sums / np.minimum(np.arange(1, num_values + 1), window))


def settled(smoothed: Curve, window: int) -> Curve:
    """Leave out the start, where a mean rests on less than a tenth of its window; unless there is nothing else."""
    start = window // 10
    return Curve(smoothed.steps[start:], smoothed.values[start:]) if len(smoothed.steps) > start else smoothed


def thin(curve: Curve, *, end: float, num_buckets: int) -> Curve:
    """Return the points that a picture needs: in each of equal stretches of [0, end], first, last, lowest, highest.

    With a stretch to each column of pixels the line looks as it would with all points, and no peak is lost.
    """
    if not len(curve.steps):
        return curve
    buckets = np.floor(curve.steps * (num_buckets / end))
    starts = np.flatnonzero(np.diff(buckets, prepend=-1.0))
    ends = np.append(starts[1:], len(buckets)) - 1
    order = np.lexsort((curve.values, buckets))  # by bucket, then by value: lowest first, highest last
    kept = np.unique(np.concatenate([starts, ends, order[starts], order[ends]]))
    return Curve(curve.steps[kept], curve.values[kept])


def median(curves: Sequence[Curve]) -> Curve:
    """Return the median of several curves, at the steps that all of them have.

    Where one of them has ended there is no median any more: one of the others alone would be of another sample.
    """
    common = reduce(np.intersect1d, [curve.steps for curve in curves])
    values = [curve.values[np.isin(curve.steps, common)] for curve in curves]
    return Curve(common, np.median(values, axis=0) if len(common) else np.empty(0))
