"""What the page says of every pair of arms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from lrlab.compare import CompareError, Comparison, compare_runs, notes, sentence
from lrlab.compare.listing import list_differences, list_limits
from lrlab.compare.tasks import arm_name
from lrlab.report import tables
from lrlab.runs import Run

_VERDICTS: Final = {
    "different": "with a difference",
    "no evidence": "without evidence of one",
    "identical": "with the same value in every seed",
    "too few": "with too few seeds to tell",
}


class Pairs(NamedTuple):
    """What was found of the pairs of arms."""

    summary: str
    sentences: list[str]
    """One for each pair, those that differ first."""
    notes: list[str]
    """What so many seeds are too few for."""
    tables: list[tuple[str, tables.Table]]
    """Each with what it lists."""


def compare_pairs(runs: Sequence[Run]) -> Pairs:
    """Compare every pair of arms; where they cannot be compared, say why instead."""
    arms: dict[str | None, set[str]] = {}
    for run in runs:
        arms.setdefault(run.study, set()).add(arm_name(run))
    alone = [next(iter(found)) for found in arms.values() if len(found) == 1]
    compared = [run for run in runs if len(arms[run.study]) > 1]
    if not compared:
        return Pairs("There is no second arm to compare with.", [], [], [])
    try:
        comparison = compare_runs(compared)
    except CompareError as error:
        return Pairs(f"The arms are not compared. {error}", [], [], [])
    tasks = list(dict.fromkeys(arm.task for arm in comparison.arms))
    prefix = len(tasks) > 1
    listed = [
        (f"{task}: {title}" if prefix else title, tables.Table(*list_them(comparison, task)))
        for task in tasks
        for title, list_them in (("Differences by pairs", list_differences), ("What they rest on", list_limits))
    ]
    found = sorted(comparison.differences, key=lambda difference: difference.verdict != "different")
    sentences = [sentence(difference, comparison) for difference in found]
    left_out = [f"Compared with nothing, since there is no other arm beside it: {arm}." for arm in alone]
    return Pairs(_counted(comparison), sentences, [*notes(comparison), *left_out], listed)


def _counted(comparison: Comparison) -> str:
    verdicts = [found.verdict for found in comparison.differences]
    parts = [f"{verdicts.count(verdict)} {words}" for verdict, words in _VERDICTS.items() if verdict in verdicts]
    return f"Of {tables.count(len(verdicts), 'pair')}: {', '.join(parts)}."
