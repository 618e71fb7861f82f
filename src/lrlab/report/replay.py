"""The picture of a replay: the losses, the rate that a rule would have set, and what it went by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from lrlab.report.curves import Curve, Series, settled, smooth, smoothing_window, thin
from lrlab.report.members import has_moved
from lrlab.report.style import COLOURS, DPI, FAINT, INK, MUTED, short_text, styled, to_png
from lrlab.runs.storage import write_whole

STATISTICS: Final[Mapping[str, tuple[str, str]]] = {
    "article": ("mean_diff", "|mean change of the loss|"),
    "slope": ("p", "p: the loss still falls"),
    "dlib": ("p_falls", "probability that the loss falls"),
    "plateau": ("num_bad", "without progress"),
    "greedy": ("num_bad", "without progress"),
}
"""Rule -> what it compares with its threshold: the key in its decisions, and the label of the axis."""

_NUM_BUCKETS: Final = 1200
_MOST_MARKS: Final = 200


def write_replay(
    path: Path | str, steps: Series, losses: Series, decisions: Sequence[Mapping[str, Any]], *, title: str
) -> None:
    """Write what `draw_replay` draws as PNG.

    Raises: StorageError.
    """
    write_whole(Path(path), to_png(draw_replay(steps, losses, decisions, title=title)))


@styled
def draw_replay(steps: Series, losses: Series, decisions: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Draw losses, the rate that a rule would have set, and its evidence at each look beside the threshold.

    Args:
        steps: update of each loss, (N,).
        losses: (N,); those that are not finite are left out.
        decisions: of `lrlab.experiments.replay_rule`, at least one.
        title: of the figure.
    """
    figure = Figure((7.2, 6.4), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.07))
    above, middle, below = figure.subplots(3, sharex=True, height_ratios=[3, 2, 2])
    above.set_title(short_text(title, limit=80), loc="left", parse_math=False)
    _draw_losses(above, steps, losses)
    looks = np.array([steps[decision["step"] - 1] for decision in decisions])
    _draw_rate(middle, steps, looks, decisions)
    _draw_evidence(below, looks, decisions)
    moved = [look for look, decision in zip(looks, decisions, strict=True) if has_moved(decision)]
    for axes in (above, middle, below):
        for step in moved[:_MOST_MARKS]:
            axes.axvline(step, color=COLOURS[1], linewidth=0.8, zorder=1)
    below.set_xlabel("update")
    below.set_xlim(0, max(steps[-1], 1))
    return figure


def _draw_losses(axes: Axes, steps: Series, losses: Series) -> None:
    finite = np.isfinite(losses)
    curve = Curve(steps[finite], losses[finite])
    window = smoothing_window(len(curve.values))
    thinned = partial(thin, end=max(float(steps[-1]), 1.0), num_buckets=_NUM_BUCKETS)
    raw, mean = thinned(curve), thinned(settled(smooth(curve, window), window))
    single: dict[str, Any] = {"color": FAINT, "linewidth": 0.6} if window > 1 else {"color": COLOURS[0], "linewidth": 1}
    axes.plot(raw.steps, raw.values, **single, label="loss")
    if window > 1:
        axes.plot(mean.steps, mean.values, color=COLOURS[0], linewidth=1.4, label=f"mean of {window:,}")
    axes.set_ylabel("loss")
    axes.legend(loc="upper right")


def _draw_rate(axes: Axes, steps: Series, looks: Series, decisions: Sequence[Mapping[str, Any]]) -> None:
    rates = [max(decisions[0]["lr_before"]), *(max(decision["lr_after"]) for decision in decisions)]
    axes.step([0.0, *looks, steps[-1]], [*rates, rates[-1]], where="post", color=INK, linewidth=1.2)
    if min(rates) > 0:
        axes.set_yscale("log")
    axes.set_ylabel("learning rate")


def _draw_evidence(axes: Axes, looks: Series, decisions: Sequence[Mapping[str, Any]]) -> None:
    """What was compared with the threshold, at those looks at which there was enough to compare."""
    kind = "dlib" if any("p_falls" in decision for decision in decisions) else str(decisions[0]["rule"])
    key, label = STATISTICS[kind]
    compared = [
        (look, abs(decision[key]), decision["threshold"])
        for look, decision in zip(looks, decisions, strict=True)
        if decision.get(key) is not None
    ]
    axes.set_ylabel(short_text(label, limit=32))
    if not compared:
        axes.text(0.5, 0.5, "never enough losses to decide", transform=axes.transAxes, ha="center", color=MUTED)
        return
    at, values, thresholds = (np.array(column) for column in zip(*compared, strict=True))
    axes.plot(at, values, ".", color=COLOURS[0], markersize=3)
    axes.step(at, thresholds, where="mid", color=COLOURS[1], linewidth=1.0, linestyle=(0, (5, 2.6)), label="threshold")
    if kind in ("article", "slope") and (values > 0).any():
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(axes.get_ylim()[0], thresholds.min() / 1e4))  # far below it all p are alike
    axes.legend(loc="upper right")
