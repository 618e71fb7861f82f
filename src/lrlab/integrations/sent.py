"""What of a run is sent to a tracker: its rows, thinned as TensorBoard's are, its evaluations and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrlab.runs import Run
from lrlab.runs.events import stretch_of
from lrlab.runs.storage import flat

Row = tuple[int, Mapping[str, float]]
"""Update, and tag -> value."""


def new_rows(run: Run, after: int) -> tuple[list[Row], int]:
    """Return the rows beyond an update, thinned as TensorBoard's are, and the update that they reach.

    Of a run under way only whole stretches are taken, of which each curve gives its first value.
    """
    planned = int(run.info.get("engine", {}).get("num_steps", 0))
    stretch = stretch_of(planned)
    rows = run.rows_after(after)
    if run.status == "running" and rows:
        whole = int(rows[-1]["step"]) // stretch * stretch
        rows = [row for row in rows if row["step"] <= whole]
    last: dict[str, int] = {}
    thinned: list[Row] = []
    for row in rows:
        step = int(row["step"])
        place = (step - 1) // stretch
        values = {name: value for name, value in row.items() if name != "step" and last.get(name) != place}
        last |= dict.fromkeys(values, place)
        if values:
            thinned.append((step, values))
    return thinned, int(rows[-1]["step"]) if rows else after


def evaluation_row(record: Mapping[str, Any]) -> Row:
    """Return what an evaluation found, as a row."""
    figures = {"loss": record["loss"], "accuracy": record["accuracy"]}
    figures["accuracy_mirror"] = (record.get("mirror") or {}).get("accuracy")
    return int(record["step"]), {f"{record['split']}/{k}": float(v) for k, v in figures.items() if v is not None}


def flat_settings(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return nested settings as pairs of a dotted name and a text."""
    return [(name, str(value)) for name, value in flat(table)]


def numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a result."""
    return {name: float(value) for name, value in result.items() if isinstance(value, int | float)}
