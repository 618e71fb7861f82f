"""How far a vertical axis reaches, and on which scale: the same for a figure in a file and in the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from lrlab.report.curves import Curve, Series

if TYPE_CHECKING:
    from lrlab.report.panels import Line, Panel

Scale = Literal["log", "from zero", "share", "signed"]

_DECADES: Final = 6
"""Most decades of a logarithmic axis; a rate that falls to zero would otherwise flatten all the rest."""


_FARTHEST_EDGE: Final = 100
"""What values are held against is in the picture up to so many times the largest of them."""
_NOTHING: Final = 1e-300
"""What is below it has no place on a logarithmic axis, as zero has none."""
_LARGEST: Final = 1e308


@dataclass(frozen=True)
class Limits:
    """Of a vertical axis."""

    low: float
    high: float
    is_log: bool = False


def limits_of(values: Series, scale: Scale) -> Limits:
    """Return the limits for values, (N,), N >= 1, on a scale of this kind."""
    if scale == "share":
        low, high = float(values.min()), float(values.max())
        margin = 0.05 * (high - low) or 0.05
        return Limits(max(low - margin, 0.0), min(high + margin, 1.0))
    if scale == "signed":
        reach = float(np.abs(values).max()) or 1.0
        return Limits(-1.05 * reach if (values < 0).any() else 0.0, 1.05 * reach)
    if scale == "log" and (values > _NOTHING).any():
        return _log_limits(values[values > _NOTHING])
    return _limits_from_zero(values)  # also nothing but zeros, which has no place on a logarithmic axis


def panel_limits(panel: Panel) -> Limits:
    """Return the limits for a panel alone: of the runs that did not diverge, whom the others would press flat."""
    values, edges, _ = _values(panel)
    near = edges <= _FARTHEST_EDGE * np.abs(values).max()  # likewise
    return limits_of(np.concatenate([values, edges[near]]), panel.quantity.scale)


def what_is_outside(panel: Panel, limits: Limits) -> str:
    """Say what of a panel an axis with these limits leaves out; empty where that is nothing."""
    values, edges, diverged = _values(panel)
    notes = []
    if limits.is_log and (values <= 0).any():
        notes.append("0 has no place on this scale")
    if values.max() > limits.high:
        notes.append(f"peak of {values.max():.3g} above this picture")
    if (edges > limits.high).any():
        notes.append(f"edge of stability up to {edges.max():.2g}")
    beyond = diverged[(diverged > limits.high) | (diverged < limits.low)]
    if len(beyond):
        notes.append(f"of runs that diverged not all is in this picture (to {beyond[np.abs(beyond).argmax()]:.2g})")
    return "; ".join(notes)


def _values(panel: Panel) -> tuple[Series, Series, Series]:
    """What is drawn of the runs that did not diverge, if there are any, and held against it; what is of the others."""
    lines = [line for arm in panel.arms for line in arm.lines]
    kept = [line for line in lines if line.member.status != "diverged"]
    diverged = [line for line in lines if line.member.status == "diverged"] if kept else []
    edges = [line.edge for line in kept or lines]
    return _joined(_curves(kept or lines)), _joined(edges), _joined(_curves(diverged))


def _curves(lines: Sequence[Line]) -> list[Curve | None]:
    return [curve for line in lines for curve in (line.curve, line.raw)]


def _joined(curves: Sequence[Curve | None]) -> Series:
    return np.concatenate([np.empty(0), *(curve.values for curve in curves if curve is not None)])


def share_limits(limits: Sequence[Limits]) -> list[Limits]:
    """Give all axes of a kind, logarithmic or not, the same limits, so that they can be compared by eye."""
    shared = {}
    for is_log in {one.is_log for one in limits}:
        alike = [one for one in limits if one.is_log == is_log]
        low, high = min(one.low for one in alike), max(one.high for one in alike)
        shared[is_log] = max(low, high * 10.0**-_DECADES) if is_log else low, high
    return [replace(one, low=shared[one.is_log][0], high=shared[one.is_log][1]) for one in limits]


def _log_limits(positive: Series) -> Limits:
    top = float(positive.max())
    bottom = max(float(positive.min()), top * 10.0**-_DECADES)
    margin = max((top / bottom) ** 0.05, 1.5) if top >= 10 * bottom else 3.2  # at least one power of ten to label
    return Limits(bottom / margin, min(top * margin, _LARGEST), is_log=True)


def _limits_from_zero(values: Series) -> Limits:
    """Show everything, unless a few values would press all others flat."""
    peak, high = float(values.max()), float(np.quantile(values, 0.995))
    if peak > 4 * high > 0:
        return Limits(0.0, 1.5 * high)
    return Limits(0.0, min(1.05 * peak, _LARGEST) or 1.0)
