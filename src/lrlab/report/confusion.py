"""The picture of a confusion matrix, with the accuracy of each class beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter

from lrlab.report.blitting import Blitter, Word, Words
from lrlab.report.style import COLOURS, FAINT, INK, MUTED, short_names, short_text, styled

_NORM: Final = PowerNorm(0.5, 0, 1)
"""Colour by the square root of a share, so that an error of one in a hundred is still seen."""
_MOST_WITH_COUNTS: Final = 12
_MOST_WITH_SHARES: Final = 20
_NAME_LIMIT: Final = 18
_DPI: Final = 120
_NONE: Final = "#9a9a9a"
"""Colour of a count of 0."""
_MOST_PREPARED: Final = 4
"""Sets of names whose frames are kept; one is about four megabytes."""


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


@dataclass(frozen=True)
class _Drawing:
    """A figure with all that only the names of the classes decide, and the parts of it that show counts."""

    figure: Figure
    layout: _Layout
    cells: QuadMesh
    bars: PolyCollection
    shares: Words
    accuracies: Words
    title: Text

    def blitter(self) -> Blitter:
        """Something that draws the figure anew, at little cost, once `fill` has changed it."""
        return Blitter(self.figure, [self.cells, self.bars, self.shares, self.accuracies, self.title])

    def fill(self, counts: npt.NDArray[np.int64], title: str) -> None:
        """Show these counts, (K, K), and this title."""
        totals = counts.sum(1, keepdims=True)
        shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
        accuracies = shares.diagonal()
        self.cells.set_array(np.ma.masked_invalid(shares))
        self.bars.set_verts(_bars(np.nan_to_num(accuracies)))
        self.shares.words = _cell_words(counts, shares)
        self.accuracies.words = _accuracy_words(accuracies)
        self.title.set_text(short_text(title, limit=int((self.layout.width - self.layout.left) * 10)))


def confusion_png(confusion: Sequence[Sequence[int]], classes: Sequence[str], *, title: str) -> bytes:
    """Draw a confusion matrix as a PNG; cheap for names that came before, since a run draws one at each evaluation.

    Args:
        confusion: counts of the examples, (K, K); row = label, column = prediction.
        classes: names of the K classes; drawn as plain text, shortened where they are long.
        title: one line above the matrix.
    """
    drawing, blitter = _prepared(tuple(classes))
    drawing.fill(np.asarray(confusion, dtype=np.int64), title)
    return styled(blitter.png)()


def confusion_figure(confusion: Sequence[Sequence[int]], classes: Sequence[str], *, title: str) -> Figure:
    """Draw what `confusion_png` encodes."""
    drawing = _draw_frame(classes)
    drawing.fill(np.asarray(confusion, dtype=np.int64), title)
    return drawing.figure


@lru_cache(_MOST_PREPARED)
@styled
def _prepared(classes: tuple[str, ...]) -> tuple[_Drawing, Blitter]:
    drawing = _draw_frame(classes)
    return drawing, drawing.blitter()


@styled
def _draw_frame(classes: Sequence[str]) -> _Drawing:
    """Draw all but the counts."""
    names = short_names(classes, limit=_NAME_LIMIT)
    layout = _layout(names)
    figure = Figure((layout.width, layout.height), dpi=_DPI)
    matrix = figure.add_axes(layout.box(layout.left, layout.bottom, layout.side, layout.side))
    cells = _draw_matrix(matrix, names=names, layout=layout)
    beside = figure.add_axes(layout.box(layout.left + layout.side + 0.15, layout.bottom, 0.8, layout.side))
    bars = _draw_bars(beside, len(names))
    _draw_colour_bar(figure, cells, layout=layout)
    x, y, _, _ = layout.box(layout.left, layout.height - 0.18, 0, 0)
    share_size = min(9.0, layout.cell * 72 * (0.24 if len(names) <= _MOST_WITH_COUNTS else 0.36))
    shares = Words(matrix.transData, size=share_size)
    accuracies = Words(beside.transData, size=min(9.0, max(6.0, layout.cell * 72 * 0.8)), align="left")
    for words in (shares, accuracies):
        figure.add_artist(words)
    title = figure.text(x, y, "", fontsize=11.5, va="top", parse_math=False)
    return _Drawing(figure, layout, cells, bars, shares, accuracies, title)


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


def _draw_matrix(axes: Axes, *, names: Sequence[str], layout: _Layout) -> QuadMesh:
    axes.grid(visible=False)
    axes.set_facecolor("#f4f4f4")  # shows through where a class has no examples
    num_classes = len(names)
    with_lines = num_classes <= _MOST_WITH_SHARES
    edges = np.arange(num_classes + 1) - 0.5
    cells = axes.pcolormesh(
        edges,
        edges,
        np.zeros((num_classes, num_classes)),
        cmap="Blues",
        norm=_NORM,
        edgecolors="white" if with_lines else "none",
        linewidth=1,
        antialiased=with_lines,
        rasterized=not with_lines,  # ten thousand rectangles are no drawing any more
    )
    axes.invert_yaxis()
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
    return cells


def _cell_words(counts: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]) -> list[Word]:
    """Write the share of the row into each cell, and below it the count; where there are many, shares above 0 alone."""
    num_classes = len(counts)
    if num_classes > _MOST_WITH_SHARES:
        return []
    with_counts = num_classes <= _MOST_WITH_COUNTS
    words = []
    for row, column in np.ndindex(counts.shape):
        share, count = float(shares[row, column]), int(counts[row, column])
        if np.isnan(share) or (count == 0 and not with_counts):
            continue
        text = f"{_percent(share)}\n{count}" if with_counts else _percent(share)
        words.append(Word(text, column, row, "white" if share > 0.3 else INK if count else _NONE))
    return words


def _percent(share: float) -> str:
    """A share in whole per cent; what would be rounded to none or all of them says so."""
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def _draw_bars(axes: Axes, num_classes: int) -> PolyCollection:
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set(xlim=(0, 1), ylim=(num_classes - 0.5, -0.5), xticks=[0, 1], yticks=[])
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.tick_params(labelsize=8, length=2)
    axes.set_xlabel("accuracy")
    axes.add_collection(PolyCollection(_bars(np.ones(num_classes)), facecolors="#f0f0f0"), autolim=False)
    bars = PolyCollection([], facecolors=COLOURS[0])
    axes.add_collection(bars, autolim=False)
    return bars


def _bars(lengths: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """Corners of horizontal bars from 0, one for each class, (4, 2)."""
    return [
        np.array([(0, row - 0.33), (length, row - 0.33), (length, row + 0.33), (0, row + 0.33)])
        for row, length in enumerate(lengths.tolist())
    ]


def _accuracy_words(accuracies: npt.NDArray[np.float64]) -> list[Word]:
    """Write the accuracy of each class beside its bar; where there are many, only which of them have no examples."""
    return [
        Word("n/a", 1.08, row, MUTED) if np.isnan(accuracy) else Word(f"{accuracy:.1%}", 1.08, row)
        for row, accuracy in enumerate(accuracies.tolist())
        if len(accuracies) <= _MOST_WITH_SHARES or np.isnan(accuracy)
    ]


def _draw_colour_bar(figure: Figure, cells: QuadMesh, *, layout: _Layout) -> None:
    bar = figure.add_axes(layout.box(layout.left + layout.side - 1.9, layout.height - layout.top + 0.12, 1.9, 0.09))
    figure.colorbar(cells, cax=bar, orientation="horizontal", ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    bar.xaxis.set_ticks_position("top")
    bar.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    bar.tick_params(labelsize=7, length=2, pad=1)
    bar.spines[:].set(color=FAINT)
    bar.text(-0.04, 0.5, "% of the row", transform=bar.transAxes, ha="right", va="center", fontsize=7.5, color=MUTED)
