"""The picture of a range test: the loss over the rate, seed by seed, and the rate that it suggests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lrlab.report.style import COLOURS, DPI, INK, short_text, styled, to_png
from lrlab.runs.storage import write_whole

_LOSS: Final = COLOURS[0]
_SUGGESTION: Final = COLOURS[2]
_DIVERGED: Final = COLOURS[1]
_RAW: Final[dict[str, Any]] = {"color": _LOSS, "linewidth": 0.5, "alpha": 0.25}
_SMOOTHED: Final[dict[str, Any]] = {"color": _LOSS, "linewidth": 1.3, "alpha": 0.8}
_LEAST: Final[dict[str, Any]] = {"color": INK, "marker": "o", "linestyle": "none", "markersize": 4, "zorder": 4}
_DOT: Final[dict[str, Any]] = {"color": _SUGGESTION, "marker": "D", "linestyle": "none", "markersize": 4.5, "zorder": 4}
_CROSS: Final[dict[str, Any]] = {
    "color": _DIVERGED, "marker": "x", "linestyle": "none", "markersize": 6, "markeredgewidth": 1.8, "zorder": 4
}  # fmt: skip


def write_range_test(path: Path | str, document: Mapping[str, Any], *, title: str) -> None:
    """Write what `draw_range_test` draws as PNG.

    Raises: StorageError.
    """
    write_whole(Path(path), to_png(draw_range_test(document, title=title)))


@styled
def draw_range_test(document: Mapping[str, Any], *, title: str) -> Figure:
    """Draw losses and smoothed losses over the rate, the suggestion of each seed, their median and their spread.

    Args:
        document: of `lrlab.training.RangeTest.document`.
        title: of the figure.
    """
    figure = Figure((6.4, 4.8), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.07))
    axes = figure.add_subplot()
    axes.set_title(short_text(title, limit=70), loc="left", parse_math=False)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss of a batch, before its update")
    sweeps = document["sweeps"]
    ends = [sweep["diverged_at"] or document["end"] for sweep in sweeps]
    axes.set_xlim(document["start"], max(*ends, 10 * document["start"]))
    _set_height(axes, sweeps)
    if document["suggestion"] is not None:
        axes.axvspan(document["least"], document["largest"], color=_SUGGESTION, alpha=0.16, linewidth=0, zorder=0.5)
        axes.axvline(document["suggestion"], color=_SUGGESTION, linewidth=1.6, zorder=2.5)
    for sweep in sweeps:
        _draw_sweep(axes, sweep)
    _draw_legend(figure, document)
    return figure


def _set_height(axes: Axes, sweeps: list[Mapping[str, Any]]) -> None:
    """From the least smoothed loss to well above the first ones: what diverges would press all else flat."""
    smoothed = [sweep["smoothed"] for sweep in sweeps if sweep["smoothed"]]
    if smoothed:
        low = min(map(min, smoothed))
        high = max(max(values[: values.index(min(values)) + 1]) for values in smoothed)
        height = high - low or 1.0
        axes.set_ylim(low - 0.08 * height, high + 0.45 * height)


def _draw_sweep(axes: Axes, sweep: Mapping[str, Any]) -> None:
    lrs, smoothed = sweep["lr"], sweep["smoothed"]
    axes.plot(lrs, sweep["loss"], **_RAW)
    axes.plot(lrs, smoothed, **_SMOOTHED, label=f"seed {sweep['seed']}")
    if sweep["diverged_at"] is not None:
        axes.plot([sweep["diverged_at"]], [1.0], **_CROSS, transform=axes.get_xaxis_transform(), clip_on=False)
    if sweep["suggestion"] is None:
        return
    least = smoothed.index(min(smoothed))
    axes.plot([lrs[least]], [smoothed[least]], **_LEAST)
    nearest = min(range(len(lrs)), key=lambda index: abs(lrs[index] - sweep["suggestion"]))
    axes.plot([sweep["suggestion"]], [smoothed[nearest]], **_DOT)


def _draw_legend(figure: Figure, document: Mapping[str, Any]) -> None:
    sweeps = document["sweeps"]
    num_found = sum(sweep["suggestion"] is not None for sweep in sweeps)
    entries: list[tuple[Artist, str]] = [
        (Line2D([], [], **_RAW | {"alpha": 0.6}), "loss"),
        (Line2D([], [], **_SMOOTHED), f"its mean around each rate, {len(sweeps)} seeds"),
    ]
    if num_found:
        entries += [
            (Line2D([], [], **_LEAST), "least mean loss"),
            (Line2D([], [], **_DOT), "a tenth of its rate"),
            (Line2D([], [], color=_SUGGESTION, linewidth=1.6), f"suggestion {document['suggestion']:.2g}, the median"),
            (Patch(color=_SUGGESTION, alpha=0.16), f"{document['least']:.2g} to {document['largest']:.2g}"),
        ]
    if num_found < len(sweeps):
        text = f"no suggestion from {len(sweeps) - num_found} of {len(sweeps)} seeds"
        entries.append((Line2D([], [], linestyle="none"), text))
    if any(sweep["diverged_at"] is not None for sweep in sweeps):
        entries.append((Line2D([], [], **_CROSS), "diverged"))
    handles, labels = zip(*entries, strict=True)
    figure.legend(handles, labels, loc="outside lower left", ncols=2, columnspacing=1.4, labelspacing=0.3)
