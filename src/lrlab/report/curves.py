"""A series over the updates, and how it is smoothed and thinned before it is drawn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Series = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


class Curve(NamedTuple):
    """Values over updates, oldest first; no value is nan."""

    steps: Series
    values: Series


def finite(series: tuple[Series, Series]) -> Curve:
    """Return the values of a series that are finite."""
    steps, values = series
    kept = np.isfinite(values)
    return Curve(steps[kept], values[kept])


def smoothing_window(num_values: int) -> int:
    """Return how many values a smoothed one rests on: about a fortieth of them, in steps of 1, 2 and 5; at least 1."""
    wanted = max(1, num_values // 40)
    magnitude: int = 10 ** (len(str(wanted)) - 1)
    return max(size for size in (magnitude, 2 * magnitude, 5 * magnitude) if size <= wanted)


def smooth(curve: Curve, window: int) -> Curve:
    """Return the mean of each value and those before it, `window` in all; of as many as there are at the start.

    A window reaches over the end of one block of `window` values and the start of the next, so its sum is that of
    a suffix and a prefix. Nothing is ever subtracted: a huge value leaves no rounding error behind once it is past.
    """
    num_values = len(curve.values)
    blocks = np.zeros((num_values // window + 1, window))
    blocks.flat[:num_values] = curve.values
    prefixes = blocks.cumsum(axis=1).ravel()[:num_values]
    suffixes = blocks[:, ::-1].cumsum(axis=1)[:, ::-1].ravel()[:num_values]
    sums = prefixes.copy()
    is_block_end = np.arange(window - 1, num_values) % window == window - 1  # the window is a whole block
    sums[window - 1 :] += np.where(is_block_end, 0.0, suffixes[: max(0, num_values - window + 1)])
    return Curve(curve.steps, sums / np.minimum(np.arange(1, num_values + 1), window))


def settled(smoothed: Curve, window: int) -> Curve:
    """Leave out the start, where a mean rests on less than a tenth of its window; unless there is nothing else."""
    start = window // 10
    return Curve(smoothed.steps[start:], smoothed.values[start:]) if len(smoothed.steps) > start else smoothed


def thin(curve: Curve, *, end: float, num_buckets: int) -> Curve:
    """Return the points that a picture needs: in each of equal stretches of [0, end], first, last, lowest, highest.

    With a stretch to each column of pixels the line looks as it would with all points, and no peak is lost.
    """
    kept = places_to_keep(curve, end=end, num_buckets=num_buckets)
    return Curve(curve.steps[kept], curve.values[kept])


def places_to_keep(curve: Curve, *, end: float, num_buckets: int) -> Places:
    """Return where in a curve the points stand that `thin` returns, in order."""
    if not len(curve.steps):
        return np.empty(0, np.intp)
    buckets = np.floor(curve.steps * (num_buckets / end))
    starts = np.flatnonzero(np.diff(buckets, prepend=-1.0))
    ends = np.append(starts[1:], len(buckets)) - 1
    lowest, highest = (_first_equal(curve.values, starts, extreme) for extreme in (np.minimum, np.maximum))
    return np.unique(np.concatenate([starts, ends, lowest, highest]))


def _first_equal(values: Series, starts: Places, extreme: np.ufunc) -> Places:
    """Return where each stretch, given by its start, has its lowest or highest value first."""
    lengths = np.diff(starts, append=len(values))
    stretch = np.repeat(np.arange(len(starts)), lengths)
    places = np.flatnonzero(values == np.repeat(extreme.reduceat(values, starts), lengths))
    return places[np.flatnonzero(np.diff(stretch[places], prepend=-1))]
