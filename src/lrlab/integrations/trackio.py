"""Trackio: a run of ours as one of theirs, and theirs as they are kept."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

from lrlab.integrations.recorded import RecordedError, Recording, as_curve
from lrlab.integrations.sent import Row, flat_settings
from lrlab.integrations.tracking import Card, TrackerError


class TrackioRun:
    """A run in trackio's folder on this machine (TRACKIO_DIR), or on the server that TRACKIO_SERVER_URL names."""

    holds_back: ClassVar[bool] = True

    def __init__(self, card: Card, key: str | None) -> None:
        import trackio

        try:
            run: Any = trackio.init(
                project=card.project,
                name=card.name,
                group=card.group,
                config=dict(card.config),
                resume="never" if key is None else "must",
                embed=False,
                auto_log_gpu=False,  # this process is not the training
                auto_log_cpu=False,
            )
        except ValueError as error:
            raise TrackerError(
                f"trackio has no run '{card.name}' in project '{card.project}', which was sent to it ({error}). It was "
                "deleted there, or this process was killed before trackio wrote it. To send it anew, delete "
                "sent-to-trackio.json in the run's directory."
            ) from error
        self._run = run
        trackio.context_vars.current_run.set(
            None
        )  # which they would end once more with the process, and say so on stdout
        if key is not None and self.key != key:  # they know runs by name
            self._run.finish()
            raise TrackerError(
                f"trackio has another run '{card.name}' in project '{card.project}' now, and would add to it. "
                "Rename or delete that one."
            )

    @property
    def key(self) -> str:
        """Their id."""
        return str(self._run.id)

    def log(self, rows: Sequence[Row]) -> None:
        """Log rows."""
        for step, values in rows:
            self._run.log(dict(values), step=step)

    def finish(self, status: str, result: Mapping[str, float]) -> None:
        """Log the result at its last update: trackio has no summary."""
        self._run.log({f"result/{name}": value for name, value in result.items()}, step=int(result.get("steps", 0)))

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


def read_trackio(path: Path) -> list[Recording]:
    """Read a project of trackio's, the file <project>.db in its folder.

    Raises: RecordedError if it is none.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT run_id, run_name, step, metrics FROM metrics ORDER BY step, id").fetchall()
            configs = dict(database.execute("SELECT run_id, config FROM configs").fetchall())
    except sqlite3.Error as error:
        raise RecordedError(f"{path}: cannot be read as a project of trackio's ({error}).") from error
    points: dict[tuple[str, str], dict[str, dict[float, float]]] = {}  # a row may have been sent twice
    for key, name, step, metrics in rows:
        series = points.setdefault((key, name), {})
        for quantity, value in json.loads(metrics).items():
            if (number := _number(value)) is not None:
                series.setdefault(quantity, {})[step] = number
    if not points:
        raise RecordedError(f"{path}: no numbers were recorded here.")
    return [
        Recording(
            name,
            {quantity: as_curve([*found.items()]) for quantity, found in series.items()},
            {k: v for k, v in flat_settings(json.loads(configs.get(key, "{}"))) if not k.startswith("_")},
        )
        for (key, name), series in points.items()
    ]


def _number(value: Any) -> float | None:
    """A value as trackio writes it: what is not finite as a word."""
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    return float(value) if isinstance(value, int | float) else None
