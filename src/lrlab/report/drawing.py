"""One quantity of one or more runs over the updates, as a figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from lrlab.report.curves import Curve, by_arm, decay_steps, last_step, median, settled, smooth, smoothing_window, thin
from lrlab.report.style import DPI, MUTED, line_style, short_text, styled
from lrlab.runs import Run

_NUM_BUCKETS: Final = 1000
"""Stretches that a line is thinned to: about a column of pixels each."""
_MOST_RAW: Final = 2
"""Runs up to which single values are drawn behind the smoothed ones; more would only hide each other."""
_FEWEST_FOR_MEDIAN: Final = 3
_DECADES: Final = 6
"""Most decades of a logarithmic axis; a rate that falls to zero would otherwise flatten all the rest."""
_COLUMN_CHARACTERS: Final = 34
"""Longest text that leaves room for a second column in the legend."""
_TICK_ROWS_HEIGHT: Final = 0.12
"""Room for the ticks of all arms' decays above the axes, as a share of their height."""


@dataclass(frozen=True)
class Quantity:
    """Something that a run records over its updates."""

    name: str
    """Of its file, without the suffix."""
    title: str
    label: str
    """Of the vertical axis."""
    read: Callable[[Run], Curve]
    scale: Literal["log", "from zero", "share"]
    smoothed_over: str | None = None
    """What one value belongs to, in the plural, where single values are too noisy to read: 'updates'."""


@dataclass
class _Drawing:
    """A figure under way."""

    axes: Axes
    end: float
    """Last update on the horizontal axis."""
    window: int
    """Values that a smoothed one rests on; 1 where nothing is smoothed."""
    with_raw: bool
    row_height: float
    """Of one arm's ticks, as a share of the axes' height."""
    marker: str | None
    drawn: list[Curve] = field(default_factory=list)
    """Every curve that was drawn, whole."""
    ends: list[tuple[float, float, Any]] = field(default_factory=list)
    """Where a run diverged: update, last value, colour."""
    arms: list[tuple[Artist, str]] = field(default_factory=list)
    """Legend: a line for each arm."""
    keys: dict[str, Artist] = field(default_factory=dict)
    """Legend: what the kinds of lines and marks mean."""

    def line(self, curve: Curve, **style: Any) -> None:
        """Draw a curve with as many points as can be seen."""
        self.drawn.append(curve)
        shown = thin(curve, end=self.end, num_buckets=_NUM_BUCKETS)
        self.axes.plot(shown.steps, shown.values, **style)


@styled
def draw_quantity(quantity: Quantity, runs: Sequence[Run]) -> Figure | None:
    """Draw a quantity of all runs that have it; return None if none has.

    Each arm has a colour and dashes of its own. From three seeds on, each is a thin line and their median a thick
    one, as far as all of them reach. Decays stand as ticks above the axes, a row for each arm.
    """
    arms = {arm: [(run, quantity.read(run)) for run in members] for arm, members in by_arm(runs).items()}
    lengths = [len(curve.steps) for members in arms.values() for _, curve in members]
    if not any(lengths):
        return None
    figure = Figure((5.6, 3.6), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.07))
    drawing = _Drawing(
        figure.add_subplot(),
        end=_last_update(arms),
        window=smoothing_window(max(lengths)) if quantity.smoothed_over else 1,
        with_raw=sum(length > 0 for length in lengths) <= _MOST_RAW,
        row_height=min(0.035, _TICK_ROWS_HEIGHT / len(arms)),
        marker="o" if quantity.scale == "share" else None,
    )
    for index, (arm, members) in enumerate(arms.items()):
        measured = [(run, curve) for run, curve in members if len(curve.steps)]
        if measured:
            _draw_arm(drawing, arm, measured, index=index, unit=quantity.smoothed_over)
            _draw_decays(drawing, [run for run, _ in measured], index=index, row=len(arms) - 1 - index)
    _finish_axes(drawing, quantity, num_rows=len(arms))
    _draw_legend(figure, drawing)
    return figure


def share_limits(figures: Sequence[Figure]) -> None:
    """Give figures with a logarithmic axis the same one, so that they can be compared by eye."""
    axes = [figure.axes[0] for figure in figures if figure.axes[0].get_yscale() == "log"]
    if axes:
        bottoms, tops = zip(*(one.get_ylim() for one in axes), strict=True)
        for one in axes:
            one.set_ylim(max(min(bottoms), max(tops) * 10.0**-_DECADES), max(tops))


def _last_update(arms: dict[str, list[tuple[Run, Curve]]]) -> float:
    """The same for every quantity, so that the figures of a report stand under each other."""
    members = [member for arm in arms.values() for member in arm]
    return max(float(max(last_step(run), *curve.steps[-1:], 1)) for run, curve in members)


def _draw_arm(
    drawing: _Drawing, arm: str, members: Sequence[tuple[Run, Curve]], *, index: int, unit: str | None
) -> None:
    style, smoothed = line_style(index), drawing.window > 1
    has_median = len(members) >= _FEWEST_FOR_MEDIAN
    single: dict[str, Any] = {"linewidth": 1.6}
    if has_median:
        single = {"linewidth": 0.7, "alpha": max(0.2, min(0.45, 3 / len(members)))}
    grey: dict[str, Any] = {"color": MUTED, "linestyle": "solid"}
    shown = []
    for run, curve in members:
        if smoothed and drawing.with_raw:
            raw = {"linewidth": 0.5, "alpha": 0.28, "zorder": 1.5}
            drawing.line(curve, **style | raw | {"linestyle": "solid", "label": f"{arm} seed {run.seed} raw"})
            drawing.keys[f"single {unit}"] = Line2D([], [], **grey, linewidth=0.6, alpha=0.5)
        line = settled(smooth(curve, drawing.window), drawing.window)
        marker = "o" if len(line.steps) == 1 else drawing.marker  # a line of one point would not be seen
        drawing.line(line, **style | single, label=f"{arm} seed {run.seed}", marker=marker, markersize=2.5)
        shown.append(line)
        if run.status == "diverged":
            drawing.ends.append((last_step(run), line.values[-1], style["color"]))
    if smoothed:
        key = f"mean of last {drawing.window:,} {unit}"
        drawing.keys[key] = Line2D([], [], **grey | single)
    if has_median:
        drawing.line(median(shown), **style, linewidth=2.4, zorder=3, label=f"{arm} median")
        if not smoothed:
            drawing.keys["one seed"] = Line2D([], [], **grey | single)
        drawing.keys["median of the seeds"] = Line2D([], [], **grey, linewidth=2.4)
    label = f"{short_text(arm, limit=32)} ({_count([run for run, _ in members])})"
    drawing.arms.append((Line2D([], [], **style, linewidth=2), label))


def _count(runs: Sequence[Run]) -> str:
    """How many runs, and how many of them are not complete."""
    others = [run.status for run in runs if run.status != "complete"]
    return ", ".join([f"n = {len(runs)}", *(f"{others.count(status)} {status}" for status in dict.fromkeys(others))])


def _draw_decays(drawing: _Drawing, runs: Sequence[Run], *, index: int, row: int) -> None:
    """Draw a tall tick for a decay, and a short one for a decay that left the rate at its floor.

    The more runs decay at an update, the darker it is: one look of the rule often makes several decay.
    """
    bottom = 1.015 + row * drawing.row_height
    alpha = max(0.15, min(0.9, 2.2 / len(runs)))
    kinds = {"decay": (0.85, 1.1), "decay at the floor": (0.35, 0.8)}
    for run in runs:
        for steps, (key, (height, width)) in zip(decay_steps(run), kinds.items(), strict=True):
            if not steps:
                continue
            drawing.axes.vlines(
                steps,
                bottom,
                bottom + height * drawing.row_height,
                transform=drawing.axes.get_xaxis_transform(),
                clip_on=False,
                color=line_style(index)["color"],
                linewidth=width,
                alpha=alpha,
                label=f"{key} of {run.arm} seed {run.seed}",
            )
            drawing.keys[key] = Line2D([], [], marker="|", linestyle="none", color=MUTED, markersize=10 * height)


def _finish_axes(drawing: _Drawing, quantity: Quantity, *, num_rows: int) -> None:
    axes = drawing.axes
    ticks_height = num_rows * drawing.row_height if any(key.startswith("decay") for key in drawing.keys) else 0
    axes.set_title(quantity.title, loc="left", pad=7 + 200 * ticks_height, parse_math=False)
    axes.set_xlabel("update")
    axes.set_ylabel(quantity.label)
    axes.set_xlim(0, drawing.end)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    values = np.concatenate([curve.values for curve in drawing.drawn])
    if quantity.scale == "log":
        _set_log_scale(axes, values)
    elif quantity.scale == "share":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.02))
    else:
        _start_at_zero(axes, values)
    for step, value, colour in drawing.ends:
        height = min(max(value, axes.get_ylim()[0]), axes.get_ylim()[1])
        cross: dict[str, Any] = {
            "marker": "x",
            "linestyle": "none",
            "markersize": 7,
            "markeredgewidth": 2,
            "clip_on": False,
        }
        axes.plot([step], [height], **cross, color=colour, zorder=4, label="diverged")
        drawing.keys["diverged"] = Line2D([], [], **cross, color=MUTED)


def _set_log_scale(axes: Axes, values: Any) -> None:
    positive = values[values > 0]
    if not len(positive):
        return  # nothing but zeros has no place on a logarithmic axis
    top = positive.max()
    bottom = max(positive.min(), top * 10.0**-_DECADES)
    margin = max((top / bottom) ** 0.05, 1.5) if top >= 10 * bottom else 3.2  # at least one power of ten to label
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(bottom / margin, top * margin)


def _start_at_zero(axes: Axes, values: Any) -> None:
    """Show everything, unless a few values would press all others flat: then say how far they reach."""
    peak, high = values.max(), np.quantile(values, 0.995)
    axes.set_ylim(0, 1.05 * peak or 1)
    if peak > 4 * high > 0:
        axes.set_ylim(0, 1.5 * high)
        text = f"peak of {peak:.3g} above this picture"
        axes.text(0.99, 0.98, text, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=MUTED)


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
