"""A run sent to an experiment tracker: its rows, evaluations and result, while it goes or afterwards."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol, get_args

from lrlab.runs import Run, list_runs, read_run
from lrlab.runs.events import MAX_POINTS
from lrlab.runs.lock import lock_file
from lrlab.runs.storage import INFO, STUDY, TRACKED, TUNING, read_json, write_json

Kind = Literal["trackio", "mlflow", "wandb"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

Row = tuple[int, Mapping[str, float]]
"""Update, and tag -> value."""


LOOKS_IN_VAIN: Final = 6
"""After so many looks at a folder in which no run was under way, none is waited for: half a minute."""


class TrackerError(RuntimeError):
    """A tracker cannot be had, or does not take what it is given."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Card:
    """What a tracker is told of a run when it first hears of it."""

    project: str
    name: str
    group: str
    """The arm: runs that differ in their seed alone."""
    config: Mapping[str, Any]
    """As in config.toml."""


class Tracker(Protocol):
    """One run as a tracker keeps it; made with its card and, to go on with it, its key."""

    @property
    def key(self) -> str:
        """By which the tracker knows the run."""

    def log(self, rows: Sequence[Row]) -> None:
        """Take rows; one update may come in several."""

    def finish(self, status: str, result: Mapping[str, float]) -> None:
        """Take what came of the run."""

    def close(self) -> None:
        """Bring all that was given to where it is kept."""


class Sender:
    """Sends what is new of one run to one tracker, and keeps in the run's directory how far it got.

    Rows are those that TensorBoard gets (`lrlab.runs.events`): at most 10,000 points of a curve, none averaged. A run
    that goes on from a checkpoint makes its last rows again; what was sent stays as it is. Where sending is broken off,
    the rows of that time are sent once more.
    """

    def __init__(self, directory: Path, kind: Kind, *, project: str | None = None) -> None:
        self._directory = directory
        self._kind = kind
        self._project = project
        self._tracker: Tracker | None = None

    def send(self) -> tuple[Run, int]:
        """Send what has come since the last time; return the run as it stood, and how many rows were sent.

        Raises: TrackerError; LockedError if another process sends it; RunError, StorageError.
        """
        lock = self._directory / f".{self._kind}.lock"
        with lock_file(lock, lambda: f"{self._directory}: another process is sending it to {self._kind}."):
            run = read_run(self._directory)
            sent = {"step": -1, "evaluated": -1, "ended": None} | (read_json(self._note) or {})
            rows, reached = _new_rows(run, sent["step"])
            records = [record for record in run.evaluations() if record["step"] > sent["evaluated"]]
            ended = None if run.status == "running" else {"status": run.status, "steps": run.result.get("steps")}
            has_ended = ended not in (None, sent["ended"])
            if rows or records or has_ended:
                tracker = self._open(run, sent.get("key"), sent.get("project"))
                sent |= {"key": tracker.key, "project": self._card(run, sent.get("project")).project}
                write_json(self._note, sent)  # from now on the run is there, whatever becomes of its rows
                with _their_errors(self._kind):
                    tracker.log([*rows, *map(_evaluation_row, records)])
                    if has_ended:
                        tracker.finish(run.status, _numbers(run.result))
                sent["step"] = reached
                sent["evaluated"] = max((record["step"] for record in records), default=sent["evaluated"])
                write_json(self._note, sent | ({"ended": ended} if has_ended else {}))
        return run, len(rows) + len(records)

    @property
    def _note(self) -> Path:
        """Where it is kept how far this went; one file for each tracker, so that two do not write the same."""
        return self._directory / TRACKED.format(self._kind)

    def close(self) -> None:
        """Let the tracker bring everything to where it is kept."""
        if self._tracker is not None:
            with _their_errors(self._kind):
                self._tracker.close()
            self._tracker = None

    def _card(self, run: Run, project: str | None) -> Card:
        study, arm = run.study, run.arm
        if (tuned := _tuned(run)) is not None:
            study, arm = tuned
        name = run.directory.resolve().name if study is None else f"{arm}-seed{run.seed}"
        return Card(project or self._project or study or "lrlab", name, arm, run.config)

    def _open(self, run: Run, key: str | None, project: str | None) -> Tracker:
        if project is not None and self._project not in (None, project):
            raise TrackerError(
                f"{self._directory}: it is in project '{project}' of {self._kind} already, so it cannot go to "
                f"'{self._project}'. Leave --project out, or delete {self._note} to send it anew."
            )
        if self._tracker is None:
            with _their_errors(self._kind):
                self._tracker = _class_of(self._kind)(self._card(run, project), key)
        return self._tracker


def send_runs(
    path: Path, kind: Kind, *, project: str | None, until_over: bool, seconds: float = 5.0
) -> Iterator[tuple[Run, int]]:
    """Send the runs in a folder, and yield each whenever it was looked at, with the number of rows sent by that.

    Args:
        path: a run, a study, or any folder with runs.
        kind: of tracker.
        project: name there; None: the study's, or lrlab.
        until_over: look again, at new runs too, until a run is over, or in a folder none has been under way for some
            looks, since a study has pauses; otherwise send what there is, once.
        seconds: between two looks.
    Raises: TrackerError; RunError if there is no run; LockedError, StorageError.
    """
    with ExitStack() as stack:
        senders: dict[Path, Sender] = {}
        looks_left = 1 if not until_over or (path / INFO).exists() else LOOKS_IN_VAIN
        num_in_vain = 0
        while num_in_vain < looks_left:
            if num_in_vain or senders:
                time.sleep(seconds)
            num_in_vain += 1
            for directory in [run.directory for run in list_runs(path)]:
                if directory not in senders:
                    senders[directory] = stack.enter_context(closing(Sender(directory, kind, project=project)))
                run, number = senders[directory].send()
                if run.status != "running" or run.is_abandoned:
                    senders[directory].close()
                elif until_over:
                    num_in_vain = 0
                yield run, number


def _tuned(run: Run) -> tuple[str, str] | None:
    """Return study and arm of a run by which a rate is tuned, in <study>/tuning/<arm>/lr<rate>/seed<k>."""
    parents = run.place.parents
    if len(parents) < 4 or parents[2].name != TUNING or not (parents[3] / STUDY).exists():
        return None
    return parents[3].name, f"{TUNING}-{parents[1].name}-{parents[0].name}"


def _new_rows(run: Run, after: int) -> tuple[list[Row], int]:
    """The rows beyond an update, thinned as TensorBoard's are, and the update that they reach.

    Of a run under way only whole stretches are taken, of which each curve gives its first value.
    """
    planned = int(run.info.get("engine", {}).get("num_steps", 0))
    stretch = math.ceil(max(1, planned) / MAX_POINTS)
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


def _evaluation_row(record: Mapping[str, Any]) -> Row:
    figures = {"loss": record["loss"], "accuracy": record["accuracy"]}
    figures["accuracy_mirror"] = (record.get("mirror") or {}).get("accuracy")
    return int(record["step"]), {f"{record['split']}/{k}": float(v) for k, v in figures.items() if v is not None}


def flat_settings(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as pairs of a dotted name and a text."""
    pairs: list[tuple[str, str]] = []
    for name, value in table.items():
        if isinstance(value, Mapping):
            pairs += flat_settings(value, f"{prefix}{name}.")
        else:
            pairs.append((f"{prefix}{name}", str(value)))
    return pairs


def _numbers(result: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in result.items() if isinstance(value, int | float)}


def _class_of(kind: Kind) -> Callable[[Card, str | None], Tracker]:
    match kind:
        case "trackio":
            from lrlab.integrations.trackio import TrackioRun

            return TrackioRun
        case "mlflow":
            from lrlab.integrations.mlflow import MlflowRun

            return MlflowRun
        case "wandb":
            from lrlab.integrations.wandb import WandbRun

            return WandbRun


@contextmanager
def _their_errors(kind: Kind) -> Iterator[None]:
    """Keep what a tracker prints off stdout, and say in a line what it complains of."""
    with redirect_stdout(sys.stderr):
        try:
            yield
        except TrackerError:
            raise
        except ImportError as error:
            raise TrackerError(f"{kind} cannot be imported ({error}): pip install 'lrlab[trackers]'") from error
        except Exception as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise TrackerError(
                f"{kind} does not take it: {first} The same command goes on; what it took this time may be there twice."
            ) from error
