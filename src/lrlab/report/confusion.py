"""The picture of a confusion matrix, with the accuracy of each class beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lrlab.report.style import COLOURS, FAINT, INK, MUTED, short_names, short_text, styled, to_png

_NORM: Final = PowerNorm(0.5, 0, 1)
"""Colour by the square root of a share, so that an error of one in a hundred is still seen."""
_MOST_WITH_COUNTS: Final = 12
_MOST_WITH_SHARES: Final = 20
_NAME_LIMIT: Final = 18
_DPI: Final = 120


@dataclass(frozen=True)
class _Layout:
    """Sizes in inches; fixed ones, since measuring every label would take longer than drawing."""

    cell: float
    label_size: float
    left: float
    bottom: float
    side: float
    beside: float = 1.75
    """Room for the accuracies."""
    top: float = 0.85
    """Room for the title and the colour bar."""

    @property
    def width(self) -> float:
        return self.left + self.side + self.beside

    @property
    def height(self) -> float:
        return self.bottom + self.side + self.top

    def box(self, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        """From inches to shares of the figure."""
        return x / self.width, y / self.height, width / self.width, height / self.height


def confusion_png(confusion: Sequence[Sequence[int]], classes: Sequence[str], *, title: str) -> bytes:
    """Draw a confusion matrix as a PNG.

    Args:
        confusion: counts of the examples, (K, K); row = label, column = prediction.
        classes: names of the K classes; drawn as plain text, shortened where they are long.
        title: one line above the matrix.
    """
    return to_png(confusion_figure(confusion, classes, title=title))


@styled
def confusion_figure(confusion: Sequence[Sequence[int]], classes: Sequence[str], *, title: str) -> Figure:
    """Draw what `confusion_png` encodes."""
    counts = np.asarray(confusion, dtype=np.int64)  # (K, K)
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    names = short_names(classes, limit=_NAME_LIMIT)
    layout = _layout(names)
    figure = Figure((layout.width, layout.height), dpi=_DPI)
    matrix = figure.add_axes(layout.box(layout.left, layout.bottom, layout.side, layout.side))
    _draw_matrix(matrix, shares, names=names, layout=layout)
    _write_cells(figure, counts, shares, layout=layout)
    beside = figure.add_axes(layout.box(layout.left + layout.side + 0.15, layout.bottom, 0.8, layout.side))
    _draw_accuracies(beside, shares.diagonal(), totals.ravel(), layout=layout)
    _draw_colour_bar(figure, matrix, layout=layout)
    line = short_text(title, limit=int((layout.width - layout.left) * 10))
    x, y, _, _ = layout.box(layout.left, layout.height - 0.18, 0, 0)
    figure.text(x, y, line, fontsize=11.5, va="top", parse_math=False)
    return figure


def _layout(names: Sequence[str]) -> _Layout:
    side = min(max(0.56 * len(names), 2.6), 5.6) if len(names) <= _MOST_WITH_SHARES else 6.6
    label_size = 9.5 if len(names) <= _MOST_WITH_COUNTS else 7.5
    label_width = max(map(len, names)) * label_size / 72 * 0.62
    return _Layout(
        cell=side / len(names),
        label_size=label_size,
        left=label_width + 0.55,
        bottom=label_width * 0.75 + 0.5,
        side=side,
    )


def _draw_matrix(axes: Axes, shares: npt.NDArray[np.float64], *, names: Sequence[str], layout: _Layout) -> None:
    axes.grid(visible=False)
    axes.set_facecolor("#f4f4f4")  # shows through where a class has no examples
    axes.imshow(shares, cmap="Blues", norm=_NORM, interpolation="nearest", aspect="auto")
    num_classes = len(names)
    shown = range(0, num_classes, 1 if num_classes <= _MOST_WITH_SHARES else -(-num_classes // 25))
    labels = [names[index] for index in shown]
    axes.set_yticks(shown, labels, fontsize=layout.label_size, parse_math=False)
    axes.set_xticks(
        shown, labels, fontsize=layout.label_size, parse_math=False, rotation=45, ha="right", rotation_mode="anchor"
    )
    axes.tick_params(length=2, pad=2)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("label")
    axes.set_xlabel("prediction")
    if num_classes <= _MOST_WITH_SHARES:
        edges = np.arange(num_classes + 1) - 0.5
        axes.hlines(edges, -0.5, num_classes - 0.5, colors="white", linewidth=1)
        axes.vlines(edges, -0.5, num_classes - 0.5, colors="white", linewidth=1)


def _write_cells(
    figure: Figure, counts: npt.NDArray[np.int64], shares: npt.NDArray[np.float64], *, layout: _Layout
) -> None:
    """Write the share of the row into each cell, and below it the count; where there are many, shares above 0 alone."""
    num_classes = len(counts)
    if num_classes > _MOST_WITH_SHARES:
        return
    with_counts = num_classes <= _MOST_WITH_COUNTS
    size = min(9.0, layout.cell * 72 * (0.24 if with_counts else 0.36))
    transform = figure.axes[0].transData
    for row, column in np.ndindex(counts.shape):
        share, count = float(shares[row, column]), int(counts[row, column])
        if np.isnan(share) or (count == 0 and not with_counts):
            continue
        text = f"{_percent(share)}\n{count}" if with_counts else _percent(share)
        colour = "white" if share > 0.3 else INK if count else "#9a9a9a"
        # a text of the figure: one of the axes is clipped to them, which costs more than drawing it
        figure.text(column, row, text, transform=transform, color=colour, fontsize=size, ha="center", va="center",
                    linespacing=1.25)  # fmt: skip


def _percent(share: float) -> str:
    """A share in whole per cent; what would be rounded to none or all of them says so."""
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def _draw_accuracies(
    axes: Axes, accuracies: npt.NDArray[np.float64], totals: npt.NDArray[np.int64], *, layout: _Layout
) -> None:
    num_classes = len(totals)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.barh(np.arange(num_classes), 1, height=0.66, color="#f0f0f0")
    axes.barh(np.arange(num_classes), np.nan_to_num(accuracies), height=0.66, color=COLOURS[0])
    axes.set(xlim=(0, 1), ylim=(num_classes - 0.5, -0.5), xticks=[0, 1], yticks=[])
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.tick_params(labelsize=8, length=2)
    axes.set_xlabel("accuracy")
    size = min(9.0, max(6.0, layout.cell * 72 * 0.8))
    for row, (accuracy, total) in enumerate(zip(accuracies, totals, strict=True)):
        if total and num_classes > _MOST_WITH_SHARES:
            continue
        text = f"{accuracy:.1%}" if total else "n/a"
        axes.text(1.08, row, text, fontsize=size, va="center", color=INK if total else MUTED)


def _draw_colour_bar(figure: Figure, matrix: Axes, *, layout: _Layout) -> None:
    bar = figure.add_axes(layout.box(layout.left + layout.side - 1.9, layout.height - layout.top + 0.12, 1.9, 0.09))
    figure.colorbar(matrix.images[0], cax=bar, orientation="horizontal", ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    bar.xaxis.set_ticks_position("top")
    bar.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    bar.tick_params(labelsize=7, length=2, pad=1)
    bar.spines[:].set(color=FAINT)
    bar.text(-0.04, 0.5, "% of the row", transform=bar.transAxes, ha="right", va="center", fontsize=7.5, color=MUTED)
