"""What is drawn of each quantity, before anybody draws it: lines thinned to what can be seen, bands over seeds, limits.

A figure in a file and the same one in the page are drawn from one panel, so they show the same. Runs are read one
after another, and of each only what is drawn is kept: a study of a thousand runs fits into memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Literal, NamedTuple

import numpy as np

from lrlab.report.curves import Curve, Series, finite, places_to_keep, settled, smooth, smoothing_window, thin
from lrlab.report.limits import Scale
from lrlab.report.members import Member, by_arm

_MOST_BUCKETS: Final = 1000
"""Stretches that a line is thinned to: about a column of pixels each."""
_FEWEST_BUCKETS: Final = 10
_MOST_POINTS: Final = 40_000
"""Points of all lines of a panel, as long as each keeps its fewest stretches: more would not pan smoothly."""
_POINTS_OF_A_BUCKET: Final = 4
_MOST_RAW: Final = 2
"""Runs up to which single values stand behind the smoothed ones; more would only hide each other."""
_FEWEST_FOR_BAND: Final = 3
_MOST_BAND_BUCKETS: Final = 500
_FEWEST_BAND_BUCKETS: Final = 50
_BUCKETS_OF_ALL_BANDS: Final = 1500
"""Stretches of all bands of a panel, as long as each keeps its fewest."""
_MOST_BAND_VALUES: Final = 2_000_000
"""Values of all runs that the bands of a panel are made from: beyond it, of fewer updates, evenly chosen."""
_QUARTILES: Final = (0.25, 0.5, 0.75)

_MOST_MARKED: Final = 20
"""Values up to which each is marked, since a line alone would not show where they are."""

Section = Literal[
    "training", "grad", "grad_out", "update", "cosine", "snr", "noise", "dead", "weight",
    "sharpness", "preconditioned", "trace", "sam",
]  # fmt: skip


@dataclass(frozen=True)
class Quantity:
    """Something that a run records over its updates."""

    name: str
    """Of its files, without the suffix."""
    section: Section
    title: str
    label: str
    """Of the vertical axis."""
    column: str | None
    """None stands for the accuracy of the evaluations, which are in no column."""
    scale: Scale
    smoothed_over: str | None = None
    """What one value belongs to, in the plural, where single values are too noisy to read: 'updates'."""
    edge: str | None = None
    """Column of what the values are held against, drawn with them where a run has it."""

    def num_values(self, member: Member) -> int:
        """How many values a run has of it."""
        return len(member.accuracy.steps) if self.column is None else member.run.num_measured.get(self.column, 0)


class Line(NamedTuple):
    """What is drawn of one run."""

    member: Member
    curve: Curve
    """Smoothed, where the panel smooths."""
    raw: Curve | None
    """Single values behind it."""
    edge: Curve | None
    """What the values are held against."""


class Band(NamedTuple):
    """Median of the seeds and the quartiles, between which half of them lie, as far as all of them reach.

    The seeds are those that came to their end, where these are three or more, else all.
    Where one of them has ended there is no median any more: one of the others alone would be of another sample.
    """

    steps: Series
    low: Series
    median: Series
    high: Series


@dataclass(eq=False)
class ArmLines:
    """What is drawn of one arm."""

    name: str
    index: int
    """Of the arm among all of them, from 0."""
    lines: list[Line] = field(default_factory=list)
    """Of the runs that have the quantity."""
    band: Band | None = None
    """From three runs on."""


@dataclass(eq=False)
class Panel:
    """One quantity of one or more runs over the updates."""

    quantity: Quantity
    arms: list[ArmLines]
    end: float
    """Last update on the horizontal axis: the same in all panels, so that they can stand under each other."""
    num_values: int
    """Most that a run has."""
    num_runs: int
    """Those that have the quantity."""
    peak: tuple[float, float, Member] | None = None
    """Largest single value, its update and its run."""

    @property
    def window(self) -> int:
        """Values that a smoothed one rests on; 1 where nothing is smoothed."""
        return smoothing_window(self.num_values) if self.quantity.smoothed_over else 1

    @property
    def has_raw(self) -> bool:
        """Whether single values stand behind the smoothed ones."""
        return self.window > 1 and self.num_runs <= _MOST_RAW

    @property
    def has_marks(self) -> bool:
        """Whether each value is marked on its line."""
        return self.quantity.scale == "share" or self.num_values <= _MOST_MARKED

    @property
    def drawn_arms(self) -> list[ArmLines]:
        """The arms that have something to show."""
        return [arm for arm in self.arms if arm.lines]

    @property
    def num_buckets(self) -> int:
        """Stretches that each line is thinned to."""
        share = _MOST_POINTS // (_POINTS_OF_A_BUCKET * self.num_runs)
        return max(_FEWEST_BUCKETS, min(_MOST_BUCKETS, share))


def make_panels(quantities: Sequence[Quantity], members: Sequence[Member]) -> list[Panel]:
    """Return a panel for each quantity that a run has, with all arms in it, also those that have nothing to show."""
    end = float(max(max(member.run.last_step, *member.accuracy.steps[-1:], 1) for member in members))
    panels = [_empty_panel(quantity, members, end) for quantity in quantities]
    panels = [panel for panel in panels if panel.num_runs]
    for index, arm in enumerate(by_arm(members).values()):
        banded = _in_band(arm)
        seeds: list[list[Curve]] = [[] for _ in panels]
        for member in arm:
            for panel, curves, (curve, edge) in zip(panels, seeds, _read(panels, member), strict=True):
                if len(curve.steps):
                    shown = _add_line(panel, index, member, curve, edge)
                    curves += [_sampled(shown, panel)] if member in banded else []
        for panel, curves in zip(panels, seeds, strict=True):
            if len(curves) >= _FEWEST_FOR_BAND:
                panel.arms[index].band = _make_band(curves, panel)
    return [panel for panel in panels if panel.drawn_arms]


def merge_alike(panels: Sequence[Panel], quantity: Quantity) -> list[Panel]:
    """Return one panel, of this quantity, instead of several that show the same of every run; else all of them."""
    curves: dict[Member, list[Curve]] = {}
    for panel in panels:
        for line in (line for arm in panel.arms for line in arm.lines):
            curves.setdefault(line.member, []).append(line.curve)
    if not all(_same(curve, alike[0]) for alike in curves.values() for curve in alike):
        return list(panels)
    arms = [next((arm for arm in same if arm.lines), same[0]) for same in zip(*(p.arms for p in panels), strict=True)]
    return [replace(panels[0], quantity=quantity, arms=arms, num_runs=len(curves))] if panels else []


def _in_band(members: Sequence[Member]) -> Sequence[Member]:
    """Those that came to their end, if they are enough: one that ended early would end the band of all."""
    complete = [member for member in members if member.status == "complete"]
    return complete if len(complete) >= _FEWEST_FOR_BAND else members


def _same(one: Curve, other: Curve) -> bool:
    return np.array_equal(one.steps, other.steps) and np.array_equal(one.values, other.values)


def _empty_panel(quantity: Quantity, members: Sequence[Member], end: float) -> Panel:
    lengths = [quantity.num_values(member) for member in members]
    empty = [ArmLines(arm, index) for index, arm in enumerate(by_arm(members))]
    return Panel(quantity, empty, end, max(lengths), sum(length > 0 for length in lengths))


def _read(panels: Sequence[Panel], member: Member) -> list[tuple[Curve, Curve | None]]:
    """Return what a run has of each panel's quantity, and its edge, from one reading of its files; empty if nothing."""
    columns = [column for panel in panels for column in (panel.quantity.column, panel.quantity.edge)]
    measured = member.run.num_measured
    read = member.run.all_series([column for column in columns if column is not None and measured.get(column)])
    curves: dict[str | None, Curve] = {column: finite(series) for column, series in read.items()}
    curves[None] = member.accuracy
    nothing = Curve(np.empty(0), np.empty(0))
    quantities = [panel.quantity for panel in panels]
    return [(curves.get(one.column, nothing), curves.get(one.edge) if one.edge else None) for one in quantities]


def _add_line(panel: Panel, index: int, member: Member, curve: Curve, edge: Curve | None) -> Curve:
    """Take a run into a panel; return all of what is drawn of it, not thinned."""
    shown = settled(smooth(curve, panel.window), panel.window)
    at = int(np.argmax(curve.values))
    if panel.peak is None or curve.values[at] > panel.peak[0]:
        panel.peak = float(curve.values[at]), float(curve.steps[at]), member
    thinned = partial(thin, end=panel.end, num_buckets=panel.num_buckets)
    raw = thinned(curve) if panel.has_raw else None
    panel.arms[index].lines.append(Line(member, thinned(shown), raw, edge and thinned(edge)))
    return shown


def _sampled(curve: Curve, panel: Panel) -> Curve:
    """Return a curve at the updates that a band of so many runs can afford: the same ones for each of them."""
    if panel.num_values * panel.num_runs <= _MOST_BAND_VALUES:
        return curve
    # the first of each stretch, and not each so-and-so-many-th: a seed that lacks one value then loses one stretch
    stretches = np.floor(curve.steps * (_MOST_BAND_VALUES / panel.num_runs / panel.end))
    firsts = np.flatnonzero(np.diff(stretches, prepend=-1.0))
    return Curve(curve.steps[firsts], curve.values[firsts])


def _make_band(curves: Sequence[Curve], panel: Panel) -> Band:
    common = curves[0].steps
    for curve in curves[1:]:
        if not np.array_equal(curve.steps, common):
            common = np.intersect1d(common, curve.steps, assume_unique=True)
    values = np.stack([curve.values[np.isin(curve.steps, common, assume_unique=True)] for curve in curves])
    low, median, high = np.quantile(values, _QUARTILES, axis=0) if len(common) else np.empty((3, 0))
    share = max(_FEWEST_BAND_BUCKETS, min(_MOST_BAND_BUCKETS, _BUCKETS_OF_ALL_BANDS // len(panel.arms)))
    edges = (low, median, high)
    kept = [places_to_keep(Curve(common, edge), end=panel.end, num_buckets=share) for edge in edges]
    by_any = np.unique(np.concatenate(kept))
    return Band(common[by_any], low[by_any], median[by_any], high[by_any])
