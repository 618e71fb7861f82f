"""How far a vertical axis reaches, and on which scale: the same for a figure in a file and in the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from lrlab.report.curves import Series

Scale = Literal["log", "from zero", "share", "signed"]

_DECADES: Final = 6
"""Most decades of a logarithmic axis; a rate that falls to zero would otherwise flatten all the rest."""


_NOTHING: Final = 1e-300
"""What is below it has no place on a logarithmic axis, as zero has none."""
_LARGEST: Final = 1e308


@dataclass(frozen=True)
class Limits:
    """Of a vertical axis."""

    low: float
    high: float
    is_log: bool = False
    note: str = ""
    """What lies outside, as a sentence; empty where nothing does."""


def limits_of(values: Series, scale: Scale) -> Limits:
    """Return the limits for values, (N,), N >= 1, on a scale of this kind."""
    if scale == "share":
        low, high = float(values.min()), float(values.max())
        margin = 0.05 * (high - low) or 0.05
        return Limits(low - margin, min(high + margin, 1.02))
    if scale == "signed":
        reach = float(np.abs(values).max()) or 1.0
        return Limits(-1.05 * reach, 1.05 * reach)
    if scale == "log" and (values > _NOTHING).any():
        return _log_limits(values[values > _NOTHING])
    return _limits_from_zero(values)  # also nothing but zeros, which has no place on a logarithmic axis


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
    """Show everything, unless a few values would press all others flat: then say how far they reach."""
    peak, high = float(values.max()), float(np.quantile(values, 0.995))
    if peak > 4 * high > 0:
        return Limits(0.0, 1.5 * high, note=f"peak of {peak:.3g} above this picture")
    return Limits(0.0, min(1.05 * peak, _LARGEST) or 1.0)
