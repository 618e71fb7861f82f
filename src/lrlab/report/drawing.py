"""One quantity of one or more runs over the updates, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from lrlab.report.limits import Limits, what_is_outside
from lrlab.report.members import Member
from lrlab.report.panels import ArmLines, Band, Panel
from lrlab.report.style import DPI, MUTED, line_style, short_text, styled

_COLUMN_CHARACTERS: Final = 34
"""Longest text that leaves room for a second column in the legend."""
_TICK_ROWS_HEIGHT: Final = 0.12
"""Room for the ticks of all arms' decays above the axes, as a share of their height."""


@dataclass
class _Drawing:
    """A figure under way."""

    axes: Axes
    panel: Panel
    row_height: float
    """Of one arm's ticks, as a share of the axes' height."""
    marker: str | None
    ends: list[tuple[float, float, Any]] = field(default_factory=list)
    """Where a run diverged: update, last value, colour."""
    arms: list[tuple[Artist, str]] = field(default_factory=list)
    """Legend: a line for each arm."""
    keys: dict[str, Artist] = field(default_factory=dict)
    """Legend: what the kinds of lines and marks mean."""


@styled
def draw_panel(panel: Panel, limits: Limits) -> Figure:
    """Draw a quantity of all runs that have it.

    Each arm has a colour and dashes of its own. From three seeds on, each is a thin line, their median a thick one,
    and half of them lie in the band around it, as far as all of them reach. Decays stand as ticks above the axes, a
    row for each arm that has any.
    """
    figure = Figure((5.6, 3.6), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.07))
    rows = [arm.index for arm in panel.drawn_arms if any(line.member.decays.first for line in arm.lines)]
    drawing = _Drawing(
        figure.add_subplot(),
        panel,
        row_height=min(0.035, _TICK_ROWS_HEIGHT / max(1, len(rows))),
        marker="o" if panel.has_marks else None,
    )
    for arm in panel.drawn_arms:
        _draw_arm(drawing, arm)
        if arm.index in rows:
            _draw_decays(drawing, arm, row=len(rows) - 1 - rows.index(arm.index))
    _finish_axes(drawing, limits, num_rows=len(rows))
    _draw_legend(figure, drawing)
    return figure


def _draw_arm(drawing: _Drawing, arm: ArmLines) -> None:
    panel, axes, style, unit = drawing.panel, drawing.axes, line_style(arm.index), drawing.panel.quantity.smoothed_over
    single: dict[str, Any] = {"linewidth": 1.6}
    if arm.band is not None:
        single = {"linewidth": 0.7, "alpha": max(0.08, min(0.45, 3 / len(arm.lines)))}
    grey: dict[str, Any] = {"color": MUTED, "linestyle": "solid"}
    for member, curve, raw, edge in arm.lines:
        if raw is not None:
            behind = {"linewidth": 0.5, "alpha": 0.28, "zorder": 1.5, "linestyle": "solid"}
            axes.plot(*raw, **style | behind, label=f"{member.label} raw")
            drawing.keys[f"single {unit}"] = Line2D([], [], **grey, linewidth=0.6, alpha=0.5)
        if edge is not None:
            axes.plot(*edge, color=style["color"], linestyle=":", linewidth=1.1, label=f"{member.label} edge")
            drawing.keys["edge of stability"] = Line2D([], [], **grey | {"linestyle": ":"}, linewidth=1.1)
        marker = "o" if len(curve.steps) == 1 else drawing.marker  # a line of one point would not be seen
        # out of the layout: to measure a thousand lines takes longer than to draw them, and the axes hold them anyway
        (line,) = axes.plot(*curve, **style | single, label=member.label, marker=marker, markersize=2.5)
        line.set_in_layout(False)
        if member.status == "diverged":
            drawing.ends.append((member.run.last_step, curve.values[-1], style["color"]))
    if panel.window > 1:
        drawing.keys[f"mean of last {panel.window:,} {unit}"] = Line2D([], [], **grey | single)
    if arm.band is not None:
        _draw_band(axes, arm.band, arm.name, style)
        if panel.window == 1:
            drawing.keys["one seed"] = Line2D([], [], **grey | single)
        drawing.keys["median of the seeds"] = Line2D([], [], **grey, linewidth=2.4)
        drawing.keys["half of the seeds"] = Patch(color=MUTED, alpha=0.25, linewidth=0)
    label = f"{short_text(arm.name, limit=32)} ({_count_statuses([line.member for line in arm.lines])})"
    drawing.arms.append((Line2D([], [], **style, linewidth=2), label))


def _draw_band(axes: Axes, band: Band, arm: str, style: dict[str, Any]) -> None:
    marker = "o" if len(band.steps) == 1 else None
    axes.plot(band.steps, band.median, **style, linewidth=2.4, zorder=3, label=f"{arm} median", marker=marker)
    area: dict[str, Any] = {"alpha": 0.16, "linewidth": 0, "zorder": 1.8}
    axes.fill_between(band.steps, band.low, band.high, color=style["color"], **area, label=f"{arm} band")


def _count_statuses(members: Sequence[Member]) -> str:
    """How many runs, and how many of them are not complete."""
    others = [member.status for member in members if member.status != "complete"]
    counts = [f"{others.count(status)} {status}" for status in dict.fromkeys(others)]
    return ", ".join([f"n = {len(members)}", *counts])


def _draw_decays(drawing: _Drawing, arm: ArmLines, *, row: int) -> None:
    """Draw a tall tick for a decay, and a short one for a decay that left the rate at its floor.

    The more runs decay at an update, the darker it is: one look of the rule often makes several decay.
    """
    bottom = 1.015 + row * drawing.row_height
    alpha = max(0.15, min(0.9, 2.2 / len(arm.lines)))
    all_decays = [line.member.decays for line in arm.lines]
    kinds = {
        "decay": ([step for decays in all_decays for step in decays.moved], 0.85, 1.1),
        "decay at the floor": ([step for decays in all_decays for step in decays.at_floor], 0.35, 0.8),
    }
    for key, (steps, height, width) in kinds.items():
        if not steps:
            continue
        drawing.axes.vlines(
            steps,
            bottom,
            bottom + height * drawing.row_height,
            transform=drawing.axes.get_xaxis_transform(),
            clip_on=False,
            color=line_style(arm.index)["color"],
            linewidth=width,
            alpha=alpha,
            label=f"{key} of {arm.name}",
        )
        drawing.keys[key] = Line2D([], [], marker="|", linestyle="none", color=MUTED, markersize=10 * height)


def _finish_axes(drawing: _Drawing, limits: Limits, *, num_rows: int) -> None:
    axes, quantity, ticks_height = drawing.axes, drawing.panel.quantity, num_rows * drawing.row_height
    axes.set_title(quantity.title, loc="left", pad=7 + 200 * ticks_height, parse_math=False)
    axes.set_xlabel("update")
    axes.set_ylabel(quantity.label)
    axes.set_xlim(0, drawing.panel.end)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    if limits.is_log:
        axes.set_yscale("log", nonpositive="clip")
    if quantity.scale == "share":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylim(limits.low, limits.high)
    if note := what_is_outside(drawing.panel, limits):
        behind = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.5}
        place: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "va": "top"}
        axes.text(0.99, 0.98, note, **place, fontsize=8, color=MUTED, bbox=behind)
    for step, value, colour in drawing.ends:
        height = min(max(value, limits.low), limits.high)
        cross: dict[str, Any] = {
            "marker": "x",
            "linestyle": "none",
            "markersize": 7,
            "markeredgewidth": 2,
            "clip_on": False,
        }
        axes.plot([step], [height], **cross, color=colour, zorder=4, label="diverged")
        drawing.keys["diverged"] = Line2D([], [], **cross, color=MUTED)


def _draw_legend(figure: Figure, drawing: _Drawing) -> None:
    """Write it below the axes; names are set afterwards, since a legend leaves out those that start with '_'."""
    entries = drawing.arms + [(handle, key) for key, handle in drawing.keys.items()]
    handles, labels = zip(*entries, strict=True)
    num_columns = 2 if len(labels) > 1 and max(map(len, labels)) <= _COLUMN_CHARACTERS else 1
    figure.set_figheight(figure.get_figheight() + 0.16 * -(-len(labels) // num_columns))
    placeholders = ["entry"] * len(labels)
    legend = figure.legend(
        handles, placeholders, loc="outside lower left", ncols=num_columns, columnspacing=1.4, labelspacing=0.3
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label)
