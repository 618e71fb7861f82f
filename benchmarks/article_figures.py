"""The picture of the article's gradients: over the depth of the network, and over the training."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from article_trends import GROUPS, GROWING, NUM_STRETCHES, QUANTITIES, Study
from lrlab.report.style import DPI, line_style, styled

ARMS = ("multiplier-0.5", "constant-lr-0.001")
"""With decays, and at a constant rate."""


@styled
def draw(study: Study) -> Figure:
    """Gradient over depth, seeds thin and their mean thick; then over the tenths of the training, means of seeds."""
    figure = Figure(figsize=(11, 7.6), layout="constrained", dpi=DPI)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.1])
    depths = top.subplots(1, len(QUANTITIES))
    for axes, (quantity, title) in zip(depths, QUANTITIES.items(), strict=True):
        _over_depth(axes, study, quantity)
        axes.set_title(title)
    depths[0].set_ylabel(f"gradient, {ARMS[0]}")
    panels = bottom.subplots(1, 2 * len(GROWING), sharey=True)
    cells = [(quantity, arm) for quantity in GROWING for arm in ARMS]
    for axes, (quantity, arm) in zip(panels, cells, strict=True):
        _over_training(axes, study, quantity, arm)
        axes.set_title(f"{GROWING[quantity]},\n{arm}")
    panels[0].set_ylabel("gradient over that of the second tenth")
    bottom.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(GROUPS))
    return figure


def _over_depth(axes: Axes, study: Study, quantity: str) -> None:
    logs = [run.by_depth(quantity) for run in study.arms[ARMS[0]].values()]
    for values in logs:
        axes.plot(GROUPS, 10**values, color=line_style(0)["color"], lw=0.8, alpha=0.4)
    axes.plot(GROUPS, 10 ** np.mean(logs, axis=0), "o-", ms=4, lw=2, color=line_style(0)["color"])
    axes.tick_params(axis="x", rotation=45)
    _log_axis(axes)


def _over_training(axes: Axes, study: Study, quantity: str, arm: str) -> None:
    middles = (np.arange(NUM_STRETCHES) + 0.5) / NUM_STRETCHES * 100
    for index, group in enumerate(GROUPS):
        logs = np.array([run.tenths[f"{quantity}/{group}"] for run in study.arms[arm].values()])
        mean = logs.mean(axis=0)
        axes.plot(middles, 10 ** (mean - mean[1]), lw=1.6, **line_style(index), label=group)
    axes.axhline(1, color="0.6", lw=0.8, zorder=0)
    axes.set_xlabel("share of the training, %")
    _log_axis(axes)


def _log_axis(axes: Axes) -> None:
    """Plain numbers, and several to a decade, since some panels span less than one."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
