"""A dot for every seed, their mean and its interval: accuracy of each arm at its end, differences of each pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lrlab.compare.statistics import Interval, are_alike, student_interval
from lrlab.report.members import Member, by_arm, split_name
from lrlab.report.style import DPI, INK, MUTED, dot_colour, short_names, styled

TITLE: Final = "{} accuracy at the end, by arm"
DIFFERENCE: Final = "difference, points"
MOST_LETTERS: Final = 26
"""Of a name beside an axis."""
_SPREAD: Final = 0.28
"""Height over which the dots of an arm are spread, in arms to either side."""
_DOT: Final[dict[str, Any]] = {
    "marker": "o",
    "linestyle": "none",
    "markersize": 4.5,
    "markeredgewidth": 0.5,
    "markeredgecolor": "white",  # keeps it apart from those that it touches
}


@dataclass(frozen=True)
class Dots:
    """A row of the picture."""

    name: str
    label: str
    """The same for the axis: short, and in lines."""
    index: int | None
    """Of the arm whose colour it has, from 0; None for ink."""
    values: Mapping[int, float]
    """By seed."""
    mean: float | None
    interval: Interval | None
    """Of the mean, 95 %."""


@dataclass(frozen=True)
class ArmSummary:
    """The runs of an arm that came to their end."""

    arm: str
    short: str
    """Its name for an axis."""
    index: int
    """Of the arm among all of them, from 0."""
    members: Sequence[Member]
    """All runs of the arm, also those that are not counted."""
    accuracies: dict[int, float]
    """Seed -> last accuracy, of the runs that are counted."""
    mean: float | None
    interval: Interval | None
    """Student's of the mean, 95 %; None below two runs, or where all are alike."""

    @property
    def dots(self) -> Dots:
        """As a row of the picture."""
        return Dots(self.arm, self.short, self.index, self.accuracies, self.mean, self.interval)


def summarise_arms(members: Sequence[Member]) -> list[ArmSummary]:
    """Sum up each arm, in the order in which the arms come."""
    arms = by_arm(members)
    shorts = short_names([*arms], limit=MOST_LETTERS)
    return [
        _summarise(arm, short, index, seeds)
        for index, ((arm, seeds), short) in enumerate(zip(arms.items(), shorts, strict=True))
    ]


def heights(num_dots: int) -> list[float]:
    """How far above its arm each dot stands, in arms, so that equal ones do not hide each other.

    The golden section spreads any number of dots evenly, and the same number always in the same way.
    """
    return [_SPREAD * (2 * (index * 0.618034 % 1) - 1) if num_dots > 1 else 0.0 for index in range(num_dots)]


def dots_range(rows: Sequence[Dots], *, least_span: float, includes: Sequence[float] = ()) -> tuple[float, float]:
    """Return the ends of an axis that holds every seed, and of the intervals what leaves the seeds apart.

    The interval of two seeds is often wider than all values: it may run out of the picture.
    """
    values = [*includes, *(value for row in rows for value in row.values.values())]
    ends = [end for row in rows for end in row.interval or ()]
    low, high = min(values), max(values)
    span = max(high - low, least_span)
    low, high = min(low, (low + high - least_span) / 2), max(high, (low + high + least_span) / 2)
    low, high = max(min([low, *ends]), low - span), min(max([high, *ends]), high + span)
    return low - 0.05 * span, high + 0.05 * span


def accuracy_range(rows: Sequence[Dots]) -> tuple[float, float]:
    """Return the ends of an axis of accuracies, which are from 0 to 1."""
    low, high = dots_range(rows, least_span=0.01)
    return max(low, 0.0), min(high, 1.0)


def difference_range(rows: Sequence[Dots]) -> tuple[float, float]:
    """Return the ends of an axis of differences, zero among them."""
    return dots_range(rows, least_span=1.0, includes=[0.0])


@styled
def draw_arms(members: Sequence[Member]) -> Figure | None:
    """Draw the accuracy of every seed as a dot, and the mean of each arm with its interval; None where there is none.

    The arm that comes first stands on top.
    """
    rows = [summary.dots for summary in summarise_arms(members)]
    if not any(row.values for row in rows):
        return None
    figure, axes = _draw_dots(rows)
    axes.set_xlim(accuracy_range(rows))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(f"{split_name(members)} accuracy")
    axes.set_title(TITLE.format(split_name(members).capitalize()), loc="left")
    return figure


@styled
def draw_differences(rows: Sequence[Dots], *, title: str) -> Figure:
    """Draw the difference of every seed as a dot, and the mean of each pair with its interval, beside zero.

    Args:
        rows: of pairs, at least one with a seed, in points.
        title: of the figure.
    """
    figure, axes = _draw_dots(rows)
    axes.axvline(0, color=MUTED, linewidth=1, zorder=1)
    axes.set_xlim(difference_range(rows))
    axes.set_xlabel(DIFFERENCE)
    figure.suptitle(title, x=0.01, ha="left")  # above the names too, which may take half of the width
    return figure


def _draw_dots(rows: Sequence[Dots]) -> tuple[Figure, Axes]:
    num_lines = sum(1 + row.label.count("\n") for row in rows)
    figure = Figure(
        (5.6, 1.5 + 0.24 * len(rows) + 0.18 * num_lines), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.07)
    )
    axes = figure.add_subplot()
    for index, row in enumerate(rows):
        place = float(index)
        values = list(row.values.values())
        raised = [place + height for height in heights(len(values))]
        colour = INK if row.index is None else dot_colour(row.index)
        axes.plot(values, raised, **_DOT, color=colour, clip_on=False, label="one seed")
        if row.interval is not None:
            axes.plot(row.interval, [place, place], color=INK, linewidth=1.8, zorder=3, label="interval")
        if len(values) > 1 and row.mean is not None:
            axes.plot([row.mean], [place], marker="|", markersize=13, markeredgewidth=2.2, color=INK, zorder=3)
    labels = [f"{row.label}\nn = {len(row.values)}" for row in rows]
    axes.set_yticks(range(len(rows)), labels, parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    entries = [
        (Line2D([], [], **_DOT, color=INK), "one seed"),
        (Line2D([], [], color=INK, linewidth=1.8, marker="|", markersize=10), "mean, 95 % interval"),
    ]
    figure.legend(*zip(*entries, strict=True), loc="outside lower left", ncols=2, columnspacing=1.4)
    return figure, axes


def _summarise(arm: str, short: str, index: int, members: Sequence[Member]) -> ArmSummary:
    accuracies = {member.seed: float(member.last["accuracy"]) for member in members if member.is_counted}
    values = np.array(list(accuracies.values()))
    has_interval = len(values) > 1 and not are_alike(values)
    # Student's knows of no end; the mean of accuracies has two
    interval = Interval(*(float(np.clip(end, 0, 1)) for end in student_interval(values))) if has_interval else None
    return ArmSummary(arm, short, index, members, accuracies, float(values.mean()) if len(values) else None, interval)
