"""MLflow: a run of ours as one of theirs, and theirs as they are kept."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Final

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from lrlab.integrations.recorded import RecordedError, Recording, as_curve
from lrlab.integrations.sent import Row, flat_settings
from lrlab.integrations.tracking import Card

MOST_METRICS: Final = 1_000
"""Values that MLflow takes at once."""
MOST_PARAMS: Final = 100
LONGEST: Final = 6_000
"""Characters of a parameter's value."""
MOST_RUNS: Final = 50_000
"""Of an experiment, as many as MLflow gives."""
_ENDS: Final = {"complete": "FINISHED", "preempted": "KILLED", "diverged": "FAILED", "failed": "FAILED"}
_STATUSES: Final[dict[str, Any]] = {"FINISHED": "complete", "KILLED": "preempted", "FAILED": "failed"}


class MlflowRun:
    """A run on the server, or in the file, that MLFLOW_TRACKING_URI names; without it MLflow chooses."""

    holds_back: ClassVar[bool] = False

    def __init__(self, card: Card, key: str | None) -> None:
        self._client = MlflowClient()
        if key is None:
            found = self._client.get_experiment_by_name(card.project)
            experiment = found.experiment_id if found else self._client.create_experiment(card.project)
            tags = {"lrlab.arm": card.group}
            key = self._client.create_run(experiment, run_name=card.name, tags=tags).info.run_id
            params = [Param(_allowed(name), value[:LONGEST]) for name, value in flat_settings(card.config)]
            for some in _portions(params, MOST_PARAMS):
                self._client.log_batch(key, params=some)
        self.key = str(key)
        """Their id."""

    def log(self, rows: Sequence[Row]) -> None:
        """Log rows, whatever stands for a character that MLflow does not take in a name as an underscore."""
        now = int(1000 * time.time())
        metrics = [Metric(_allowed(name), value, now, step) for step, values in rows for name, value in values.items()]
        for some in _portions(metrics, MOST_METRICS):
            self._client.log_batch(self.key, metrics=some)

    def finish(self, status: str, result: Mapping[str, float]) -> None:
        """Log the result as metrics of its last update, and say how the run ended."""
        step = int(result.get("steps", 0))
        self.log([(step, {f"result/{name}": value for name, value in result.items()})])
        self._client.log_batch(self.key, tags=[RunTag("lrlab.status", status)])
        self._client.set_terminated(self.key, _ENDS.get(status, "FINISHED"))

    def close(self) -> None:
        """Nothing is held back."""


def _portions(values: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), most):
        yield values[start : start + most]


def _allowed(name: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)


def read_mlflow(path: Path, *, experiment: str | None) -> list[Recording]:
    """Read the runs of an experiment from MLflow's database (mlflow.db) or its folder (mlruns).

    Args:
        path: of either.
        experiment: name; None where there is only one with runs.
    Raises: RecordedError if there is no such experiment, or there are several.
    """
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # to read the folder, which they no longer write
    if path.is_dir():
        return _read(path.resolve().as_uri(), path, experiment)
    with TemporaryDirectory() as folder:  # MLflow brings a database up to date that it opens, and this is not ours
        copy = Path(folder) / "mlflow.db"
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as theirs, closing(sqlite3.connect(copy)) as ours:
            theirs.backup(ours)
        return _read(f"sqlite:///{copy}", path, experiment)


def _read(uri: str, path: Path, experiment: str | None) -> list[Recording]:
    try:
        client = MlflowClient(tracking_uri=uri)
        runs = {
            one.name: client.search_runs([one.experiment_id], max_results=MOST_RUNS)
            for one in client.search_experiments()
        }
        found = {name: of_it for name, of_it in runs.items() if of_it and experiment in (None, name)}
        if len(found) != 1:
            names = ", ".join(name for name, of_it in runs.items() if of_it) or "none"
            raise RecordedError(f"{path}: name one experiment with --project. Those with runs: {names}.")
        return [_recording(client, run) for run in next(iter(found.values()))]
    except MlflowException as error:
        raise RecordedError(f"{path}: MLflow cannot read it ({str(error).splitlines()[0]}).") from error


def _recording(client: MlflowClient, run: Any) -> Recording:
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    points = {
        name: sorted({metric.step: metric for metric in sorted(found, key=lambda one: one.timestamp)}.items())
        for name, found in histories.items()
    }
    series = {name: as_curve([(step, metric.value) for step, metric in found]) for name, found in points.items()}
    ours = run.data.tags.get("lrlab.status", "")
    status = ours if ours in _ENDS else _STATUSES.get(run.info.status, "preempted")  # one that still runs is not over
    return Recording(run.info.run_name, series, dict(run.data.params), status=status)
