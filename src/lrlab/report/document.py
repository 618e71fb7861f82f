"""What the page's charts are drawn from, as JSON: numbers and plain text, no markup and nothing that can run."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lrlab.report.arms import DIFFERENCE, Dots, accuracy_range, difference_range, heights, summarise_arms
from lrlab.report.charts import Chart
from lrlab.report.decisions import evidence_text
from lrlab.report.matrices import Matrices
from lrlab.report.members import Member, by_arm, has_moved, split_name
from lrlab.report.pairs import Pairs
from lrlab.report.panels import ArmLines
from lrlab.report.style import dot_colour, line_style

_MOST_MARKS: Final = 2000
"""Of decays, for all arms: more would not pan smoothly."""
_MOST_SEEDS_OF_A_MARK: Final = 3
"""Whose evidence is shown: a label has to fit into its chart."""


def to_document(
    members: Sequence[Member], charts: Sequence[Chart], matrices: Sequence[Matrices], pairs: Pairs | None = None
) -> dict[str, Any]:
    """Return everything that the page draws; of a run alone there are no pairs."""
    indices = {member: index for index, member in enumerate(members)}
    arms = list(by_arm(members))
    return {
        "arms": [{"name": arm, **_style(index)} for index, arm in enumerate(arms)],
        "runs": [{"arm": arms.index(member.arm), "seed": member.seed} for member in members],
        "charts": [_chart(chart, indices) for chart in charts],
        "decays": [_decays(seeds, max(1, _MOST_MARKS // len(arms))) for seeds in by_arm(members).values()],
        "accuracy": _accuracy(members),
        "differences": _differences(pairs) if pairs is not None and pairs.dots else None,
        "matrices": [
            {
                "label": one.label,
                "classes": one.classes,
                "steps": one.steps,
                "endsMixed": one.ends_mixed,
                "counts": _packed(one.counts.astype(np.min_scalar_type(int(one.counts.max(initial=0))))),
            }
            for one in matrices
        ],
    }


def to_json(document: dict[str, Any]) -> str:
    """Write a document so that it can stand in a script element: no `<` in it can end that element."""
    return json.dumps(document, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _style(index: int) -> dict[str, Any]:
    style = line_style(index)
    dashes = style["linestyle"]
    return {
        "colour": style["color"],
        "dot": dot_colour(index),
        "dash": "solid" if dashes == "solid" else ",".join(f"{2 * length:g}px" for length in dashes[1]),
    }


def _chart(chart: Chart, indices: dict[Member, int]) -> dict[str, Any]:
    panel, limits = chart
    quantity = panel.quantity
    return {
        "title": quantity.title,
        "label": quantity.label,
        "isShare": quantity.scale == "share",
        "hasMarks": panel.has_marks,
        "isLog": limits.is_log,
        "low": limits.low,
        "high": limits.high,
        "end": panel.end,
        "arms": [_arm(arm, indices) for arm in panel.drawn_arms],
    }


def _arm(arm: ArmLines, indices: dict[Member, int]) -> dict[str, Any]:
    raw = [line.raw for line in arm.lines if line.raw is not None]
    edges = [line.edge for line in arm.lines if line.edge is not None]
    band = arm.band
    return {
        "arm": arm.index,
        "runs": [indices[line.member] for line in arm.lines],
        "lengths": [len(line.curve.steps) + 1 for line in arm.lines],
        "lines": _joined([line.curve for line in arm.lines]),
        "raw": _joined(raw) if raw else None,
        "edges": _joined(edges) if edges else None,
        "band": None
        if band is None
        else {name: _packed(_narrow(getattr(band, name))) for name in ("steps", "low", "median", "high")},
        "ends": [
            [line.member.run.last_step, float(line.curve.values[-1])]
            for line in arm.lines
            if line.member.status == "diverged"
        ],
    }


def _joined(curves: Sequence[Any]) -> dict[str, Any]:
    """Several curves as one, which nan parts: drawn as one they take a hundredth of the time."""
    steps = np.concatenate([np.append(curve.steps, curve.steps[-1:]) for curve in curves])
    values = np.concatenate([np.append(curve.values, np.nan) for curve in curves])
    return {"steps": _packed(_narrow(steps)), "values": _packed(_narrow(values))}


def _decays(members: Sequence[Member], most: int) -> dict[str, Any]:
    """The decays of an arm; those of several seeds at one update are one mark."""
    marks: dict[tuple[int, bool], list[str]] = {}
    for member in members:
        for decay in member.decays.first:
            seeds = marks.setdefault((int(decay["step"]), has_moved(decay)), [])
            seeds.append(f"seed {member.seed}: {evidence_text(decay)}")
    shown = sorted(marks.items())[:most]
    return {
        "steps": [step for (step, _), _ in shown],
        "moved": [moved for (_, moved), _ in shown],
        "numbers": [len(seeds) for _, seeds in shown],
        "texts": [seeds[:_MOST_SEEDS_OF_A_MARK] for _, seeds in shown],
    }


def _accuracy(members: Sequence[Member]) -> dict[str, Any] | None:
    rows = [summary.dots for summary in summarise_arms(members)]
    if not any(row.values for row in rows):
        return None
    return _dots(rows, limits=accuracy_range(rows), label=f"{split_name(members)} accuracy")


def _differences(pairs: Pairs) -> dict[str, Any]:
    return _dots(pairs.dots, limits=difference_range(pairs.dots), label=DIFFERENCE)


def _dots(rows: Sequence[Dots], *, limits: tuple[float, float], label: str) -> dict[str, Any]:
    return {
        "range": limits,
        "label": label,
        "rows": [
            {
                "name": row.name,
                "label": row.label,
                "arm": row.index,
                "seeds": list(row.values),
                "values": list(row.values.values()),
                "heights": heights(len(row.values)),
                "mean": row.mean,
                "interval": row.interval,
            }
            for row in rows
        ],
    }


def _narrow(values: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Return values in half the bytes where nothing that could be seen is lost: seven digits, or whole numbers."""
    if len(values) and (values == np.floor(values)).all() and np.abs(values).max() < 2**31:
        return values.astype(np.int32)
    with np.errstate(over="ignore", under="ignore"):
        narrow = values.astype(np.float32)
    is_lost = (np.isinf(narrow) & np.isfinite(values)) | ((narrow == 0) & (values != 0))
    return values if is_lost.any() else narrow


def _packed(values: npt.NDArray[Any]) -> dict[str, str]:
    little = values.astype(values.dtype.newbyteorder("<"))
    return {
        "type": f"{values.dtype.kind}{values.dtype.itemsize}",
        "bytes": base64.b64encode(little.tobytes()).decode(),
    }
