"""Confusion matrices over time: of each arm, and of its single runs as far as a page can hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lrlab.report.members import Member, by_arm, read_evaluations
from lrlab.report.tables import class_names

_MOST_COUNTS: Final = 1_500_000
"""Counts that all arms together may have in a page, and once more all single runs: about three megabytes each."""

Counts = npt.NDArray[np.int64]


class Matrices(NamedTuple):
    """The confusion counts of an arm or of a run, evaluation by evaluation."""

    label: str
    classes: list[str]
    steps: list[int]
    """Update of each of the E evaluations, oldest first."""
    ends_mixed: bool
    """Whether the last of them is the sum over runs whose last evaluations were at different updates."""
    counts: Counts
    """(E, K, K); row = label, column = prediction."""


class Collection(NamedTuple):
    """What a page shows."""

    matrices: list[Matrices]
    """Those of an arm before those of its runs."""
    remarks: list[str]
    """Sentences that say what is left out."""


def collect_matrices(members: Sequence[Member], *, is_study: bool) -> Collection:
    """Return the matrices of each arm, summed over its runs that count, and those of each run.

    A run alone is shown however it stands; of a study's runs only those that came to their end.
    """
    shown = [member for member in members if member.has_matrices and (member.is_counted or not is_study)]
    arms = by_arm(shown)
    sizes = {member: len(member.last["confusion"]) ** 2 for member in shown}
    has_singles = is_study and sum(sizes[one] * len(one.accuracy.steps) for one in shown) <= _MOST_COUNTS
    found: list[Matrices] = []
    num_left_out = 0
    for arm, seeds in arms.items():
        singles = [one for one in map(_read, seeds) if one.steps]  # a run may be taken back while it is read
        if not singles:
            continue
        total = _sum(arm, singles) if len(singles) > 1 else singles[0]
        most = max(1, _MOST_COUNTS // (len(arms) * sizes[seeds[0]]))
        num_left_out += max(0, len(total.steps) - most)
        found += [_some(total, most), *(singles if has_singles and len(singles) > 1 else [])]
    remarks = []
    if num_left_out:
        remarks.append(
            f"{num_left_out:,} evaluations between the first and the last are left out, evenly: with all of them this "
            "page would be too large."
        )
    if is_study and not has_singles and any(len(seeds) > 1 for seeds in arms.values()):
        remarks.append("Matrices of single runs are left out: with them this page would be too large.")
    return Collection(found, remarks)


def _read(member: Member) -> Matrices:
    evaluations = read_evaluations(member.run)
    counts = np.array([evaluation["confusion"] for evaluation in evaluations], np.int64)
    steps = [int(evaluation["step"]) for evaluation in evaluations]
    return Matrices(member.label, class_names(member.run, counts.shape[-1]), steps, False, counts)


def _sum(arm: str, singles: Sequence[Matrices]) -> Matrices:
    """Sum up over runs, at the updates at which all of them were evaluated, and at the last of each."""
    steps = sorted(set(singles[0].steps).intersection(*(one.steps for one in singles[1:])))
    counts: Any = sum(one.counts[[one.steps.index(step) for step in steps]] for one in singles)
    last = {one.steps[-1] for one in singles}
    if len(last) > 1:
        counts = np.concatenate([counts, sum(one.counts[-1:] for one in singles)])
    label = f"{arm}, sum of {len(singles)} seeds"
    return Matrices(label, singles[0].classes, [*steps, *([max(last)] if len(last) > 1 else [])], len(last) > 1, counts)


def _some(matrices: Matrices, most: int) -> Matrices:
    """Return so many evaluations at most, evenly chosen, the last among them."""
    if len(matrices.steps) <= most:
        return matrices
    kept = np.unique(np.linspace(len(matrices.steps) - 1, 0, most).round().astype(int))
    return matrices._replace(steps=[matrices.steps[index] for index in kept], counts=matrices.counts[kept])
