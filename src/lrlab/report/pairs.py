"""What the page says of every pair of arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from lrlab.compare import CompareError, compare_runs, count_verdicts, notes, sentence
from lrlab.compare.differences import Difference
from lrlab.compare.listing import list_differences, list_limits
from lrlab.compare.statistics import Interval
from lrlab.report import tables
from lrlab.report.arms import MOST_LETTERS, Dots
from lrlab.report.style import short_names, short_text
from lrlab.runs import Run

MOST_DRAWN: Final = 15
"""Pairs in the picture; all are in the tables."""


class Pairs(NamedTuple):
    """What was found of the pairs of arms."""

    summary: str
    sentences: Sequence[str] = ()
    """One for each pair, those that differ first."""
    notes: Sequence[str] = ()
    """What so many seeds are too few for."""
    tables: Sequence[tuple[str, tables.Table]] = ()
    """Each with what it lists."""
    dots: Sequence[Dots] = ()
    """Differences of each pair with a seed, those first that differ; the pairs that are drawn."""
    title: str = ""
    """Of their picture."""
    caption: str = ""
    """What it leaves out, and what its intervals are."""


def compare_pairs(runs: Sequence[Run]) -> Pairs:
    """Compare every pair of arms; where they cannot be compared, say why instead."""
    arms: dict[str | None, set[str]] = {}
    for run in runs:
        arms.setdefault(run.study, set()).add(run.arm)
    alone = [next(iter(found)) for found in arms.values() if len(found) == 1]
    compared = [run for run in runs if len(arms[run.study]) > 1]
    if not compared:
        return Pairs("There is no second arm to compare with.")
    try:
        comparison = compare_runs(compared)
    except CompareError as error:
        return Pairs(f"The arms are not compared. {error}")
    tasks = list(dict.fromkeys(arm.task for arm in comparison.arms))
    prefix = len(tasks) > 1
    listed = [
        (f"{task}: {title}" if prefix else title, tables.Table(*list_them(comparison, task)))
        for task in tasks
        for title, list_them in (
            ("Differences by pairs", list_differences),
            ("Effect size, other tests, and power", list_limits),
        )
    ]
    found = sorted(comparison.differences, key=lambda difference: difference.verdict != "different")
    sentences = [sentence(difference, comparison) for difference in found]
    left_out = [f"Compared with nothing, since there is no other arm beside it: {arm}." for arm in alone]
    drawn = [difference for difference in found if difference.num_seeds]
    names = list(dict.fromkeys(arm.name for arm in comparison.arms))
    shorts = dict(zip(names, short_names(names, limit=MOST_LETTERS), strict=True))
    dots = [_dots(difference, shorts, prefix=prefix) for difference in drawn[:MOST_DRAWN]]
    title = f"Differences of {comparison.measure.words}, seed by seed"
    caption = []
    if len(drawn) > MOST_DRAWN:
        caption.append(f"{MOST_DRAWN} of {len(drawn)} pairs are drawn, those that differ first; all are in the tables.")
    if comparison.num_tested > 1:
        caption.append("Each interval is of its pair alone; the sentences adjust for all pairs.")
    summary = count_verdicts(comparison) if len(found) > 1 else ""  # of one pair its sentence says it
    return Pairs(summary, sentences, [*notes(comparison), *left_out], listed, dots, title, " ".join(caption))


def _dots(found: Difference, shorts: Mapping[str, str], *, prefix: bool) -> Dots:
    name = f"{found.task}: " * prefix + f"{found.arm} - {found.reference}"
    task = f"{short_text(found.task, limit=MOST_LETTERS)}:\n" * prefix
    label = f"{task}{shorts[found.arm]}\n- {shorts[found.reference]}"
    points = {seed: 100 * value for seed, value in zip(found.seeds, found.differences, strict=True)}
    interval = None if found.interval is None else Interval(*(100 * end for end in found.interval))
    return Dots(name, label, None, points, None if found.mean is None else 100 * found.mean, interval)
