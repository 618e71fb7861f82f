"""The accuracy of each arm at its end: every seed, their mean, and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lrlab.compare.statistics import Interval, are_alike, student_interval
from lrlab.report.members import Member, by_arm, split_name
from lrlab.report.style import DPI, INK, line_style, short_names, styled

TITLE: Final = "{} accuracy at the end, by arm"
_SPREAD: Final = 0.28
"""Height over which the dots of an arm are spread, in arms to either side."""


@dataclass(frozen=True)
class ArmSummary:
    """The runs of an arm that came to their end."""

    arm: str
    index: int
    """Of the arm among all of them, from 0."""
    members: Sequence[Member]
    """All runs of the arm, also those that are not counted."""
    accuracies: dict[int, float]
    """Seed -> last accuracy, of the runs that are counted."""
    mean: float | None
    interval: Interval | None
    """Student's of the mean, 95 %; None below two runs, or where all are alike."""


def summarise_arms(members: Sequence[Member]) -> list[ArmSummary]:
    """Sum up each arm, in the order in which the arms come."""
    return [_summarise(arm, index, seeds) for index, (arm, seeds) in enumerate(by_arm(members).items())]


def heights(num_dots: int) -> list[float]:
    """How far above its arm each dot stands, in arms, so that equal ones do not hide each other.

    The golden section spreads any number of dots evenly, and the same number always in the same way.
    """
    return [_SPREAD * (2 * (index * 0.618034 % 1) - 1) if num_dots > 1 else 0.0 for index in range(num_dots)]


def accuracy_range(summaries: Sequence[ArmSummary]) -> tuple[float, float]:
    """Return the ends of an axis that holds every seed, and of the intervals what leaves the seeds apart.

    The interval of two seeds is often wider than all accuracies: it may run out of the picture.
    """
    values = [value for summary in summaries for value in summary.accuracies.values()]
    ends = [end for summary in summaries for end in summary.interval or ()]
    low, high = min(values), max(values)
    span = max(high - low, 0.01)
    low, high = max(min([low, *ends]), low - span), min(max([high, *ends]), high + span)
    return max(low - 0.05 * span, -0.02), min(high + 0.05 * span, 1.02)


@styled
def draw_arms(members: Sequence[Member]) -> Figure | None:
    """Draw the accuracy of every seed as a dot, and the mean of each arm with its interval; None where there is none.

    The arm that comes first stands on top.
    """
    summaries = summarise_arms(members)
    if not any(summary.accuracies for summary in summaries):
        return None
    figure = Figure((5.6, 1.5 + 0.42 * len(summaries)), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.07))
    axes = figure.add_subplot()
    for summary in summaries:
        style, place = {"color": line_style(summary.index)["color"]}, float(summary.index)
        values = list(summary.accuracies.values())
        raised = [place + height for height in heights(len(values))]
        dots: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 4, "markeredgewidth": 0}
        axes.plot(values, raised, **style | dots, alpha=max(0.25, min(0.6, 12 / max(1, len(values)))), label="one seed")
        if summary.interval is not None:
            axes.plot(summary.interval, [place, place], color=INK, linewidth=1.8, zorder=3, label="interval")
        if len(values) > 1 and summary.mean is not None:
            axes.plot([summary.mean], [place], marker="|", markersize=13, markeredgewidth=2.2, color=INK, zorder=3)
    names = short_names([summary.arm for summary in summaries], limit=28)
    labels = [f"{name}\nn = {len(one.accuracies)}" for name, one in zip(names, summaries, strict=True)]
    axes.set_yticks(range(len(summaries)), labels, parse_math=False)
    axes.set_ylim(len(summaries) - 0.5, -0.5)
    axes.set_xlim(accuracy_range(summaries))
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(f"share of the {split_name(members)} set")
    axes.set_title(TITLE.format(split_name(members).capitalize()), loc="left")
    entries = [
        (Line2D([], [], marker="o", linestyle="none", markersize=4, color=INK, alpha=0.6), "one seed"),
        (Line2D([], [], color=INK, linewidth=1.8, marker="|", markersize=10), "mean, 95 % interval"),
    ]
    figure.legend(*zip(*entries, strict=True), loc="outside lower left", ncols=2, columnspacing=1.4)
    return figure


def _summarise(arm: str, index: int, members: Sequence[Member]) -> ArmSummary:
    accuracies = {member.seed: float(member.last["accuracy"]) for member in members if member.is_counted}
    values = np.array(list(accuracies.values()))
    has_interval = len(values) > 1 and not are_alike(values)
    interval = Interval(*map(float, student_interval(values))) if has_interval else None
    return ArmSummary(arm, index, members, accuracies, float(values.mean()) if len(values) else None, interval)
