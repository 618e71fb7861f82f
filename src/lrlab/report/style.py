"""How every figure looks, how text that somebody else chose is drawn, and how a figure becomes a PNG or an SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import matplotlib.style
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK: Final = "#222222"
MUTED: Final = "#6b6b6b"
FAINT: Final = "#d9d9d9"
FONT: Final = "DejaVu Sans"
"""It comes with matplotlib, so that a figure looks the same everywhere."""

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, told apart with any colour vision."""
_DOT_COLOURS: Final = {"#E69F00": "#B87F00", "#56B4E9": "#2B97D6"}
"""Colour of a line -> that of a dot, where the line's has a contrast below 3:1 to white."""
DASHES: Final[tuple[Any, ...]] = ("solid", (0, (5, 2.6)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)))
"""Told apart without any colour; 4 and 7 have no common factor, so 28 arms have a pair of their own."""

DPI: Final = 200

_MISSING: Final = "\N{REPLACEMENT CHARACTER}"

_STYLE: Final[dict[str, Any]] = {
    "font.family": FONT,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titley": 1.0,  # where it is anyway; left open, each drawing looks for labels of ticks in its way
    "axes.labelsize": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#ebebeb",
    "grid.linewidth": 0.7,
    "legend.fontsize": 9,
    "legend.handlelength": 2.8,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}

styled = matplotlib.style.context(_STYLE, after_reset=True)
"""Decorator of whatever draws: our settings whatever the user's matplotlibrc says, and theirs again afterwards."""


def line_style(index: int) -> dict[str, Any]:
    """Colour and dashes of the arm with this index, from 0."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index % len(DASHES)]}


def dot_colour(index: int) -> str:
    """Colour of the dots of the arm with this index, from 0: that of its lines, or a darker shade of it."""
    colour = COLOURS[index % len(COLOURS)]
    return _DOT_COLOURS.get(colour, colour)


def short_text(text: str, *, limit: int) -> str:
    """Return text as one line of at most `limit` characters, all of which the font has.

    White space becomes one space, what cannot be drawn becomes a replacement character, and the middle of a long
    text an ellipsis, since names tend to differ at their ends.
    """
    drawable = "".join(c if ord(c) in _drawable() else _MISSING for c in " ".join(text.split()))
    if len(drawable) <= limit:
        return drawable
    tail = (limit - 1) // 2
    return f"{drawable[: limit - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{drawable[-tail:]}"


def short_names(names: Sequence[str], *, limit: int) -> list[str]:
    """Shorten names, and number them, from 0, where two would look the same or one cannot be drawn."""
    shortened = [short_text(name, limit=limit) for name in names]
    if len(set(shortened)) == len(shortened) and _MISSING not in "".join(shortened):
        return shortened
    return [f"{index} {short_text(name, limit=limit - 4)}" for index, name in enumerate(names)]


@styled
def to_png(figure: Figure) -> bytes:
    """Encode a figure; the same figure always gives the same bytes."""
    buffer = io.BytesIO()
    canvas: Any = FigureCanvasAgg(figure)  # whose methods have no types; savefig, which has, draws twice
    canvas.print_png(buffer, metadata={"Software": None})  # else the version is in it; matplotlib writes no date
    return buffer.getvalue()


@styled
def to_svg(figure: Figure) -> bytes:
    """Write a figure as SVG, its letters as outlines; the same figure always gives the same bytes."""
    buffer, dpi = io.BytesIO(), figure.dpi
    with matplotlib.rc_context({"svg.hashsalt": "lrlab", "svg.fonttype": "path"}):
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    figure.dpi = dpi  # it leaves 72 behind
    return buffer.getvalue()


@cache
def _drawable() -> frozenset[int]:
    """Code points that the font has a glyph for."""
    return frozenset(font_manager.get_font(font_manager.findfont(FONT)).get_charmap())
