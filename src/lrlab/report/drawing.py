"""One quantity of one or more runs over the updates, as a figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from lrlab.report.curves import Curve, by_arm, decay_steps, last_step, median, smooth, smoothing_window, thin
from lrlab.report.style import COLOURS, DPI, MUTED, line_style, short_text, styled
from lrlab.runs import Run

_NUM_BUCKETS: Final = 1000
"""Stretches that a line is thinned to: about a column of pixels each."""
_MOST_RAW: Final = 2
"""Runs up to which single values are drawn behind the smoothed ones; more would only hide each other."""
_FEWEST_FOR_MEDIAN: Final = 3
_DECADES: Final = 6
"""Most decades of a logarithmic axis; a rate that falls to zero would otherwise flatten all the rest."""

Scale = Literal["log", "from zero", "share"]


@dataclass(frozen=True)
class Quantity:
    """Something that a run records over its updates."""

    name: str
    """Of its file, without the suffix."""
    title: str
    label: str
    """Of the vertical axis."""
    read: Callable[[Run], Curve]
    scale: Scale
    smoothed_over: str | None = None
    """What one value belongs to, in the plural, where single values are too noisy to read: 'updates'."""


@dataclass
class _Lines:
    """What is known while one figure is drawn."""

    axes: Axes
    quantity: Quantity
    end: float
    """Last update on the horizontal axis."""
    window: int
    with_raw: bool
    values: list[Curve] = field(default_factory=list)
    """Every curve that was drawn, whole."""
    arms: list[tuple[Artist, str]] = field(default_factory=list)
    """Legend: a line for each arm."""
    keys: dict[str, Artist] = field(default_factory=dict)
    """Legend: what the kinds of lines and marks mean."""

    def line(self, curve: Curve, **style: Any) -> None:
        """Draw a curve with as many points as can be seen."""
        self.values.append(curve)
        shown = thin(curve, end=self.end, num_buckets=_NUM_BUCKETS)
        self.axes.plot(shown.steps, shown.values, **style)


@styled
def draw_quantity(quantity: Quantity, runs: Sequence[Run]) -> Figure | None:
    """Draw a quantity of all runs that have it; None if none has.

    Each arm has a colour and dashes of its own. From three seeds on, each is a thin line and their median a thick
    one, as far as all of them reach. Decays stand as ticks above the axes, a row for each arm.
    """
    curves = {run: curve for run in map(_Key, runs) if len((curve := quantity.read(run.run)).steps)}
    return None if not curves else Figure()
