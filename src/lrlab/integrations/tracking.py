"""A run sent to an experiment tracker: its rows, evaluations and result, while it goes or afterwards."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol, get_args

from lrlab.integrations.sent import Row, evaluation_row, new_rows, numbers
from lrlab.runs import Run, list_runs, read_run
from lrlab.runs.lock import lock_file
from lrlab.runs.storage import INFO, STUDY, TRACKED, TUNING, read_json, write_json

Kind = Literal["trackio", "mlflow", "wandb"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


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

    holds_back: ClassVar[bool]
    """Whether what it was given may be lost until it is closed, should the process be killed."""

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
    the rows of that time are sent once more: of a tracker that holds back, all since it was opened.
    """

    def __init__(self, directory: Path, kind: Kind, *, project: str | None = None) -> None:
        self._directory = directory
        self._kind = kind
        self._project = project
        self._tracker: Tracker | None = None
        self._lock = ExitStack()
        self._is_locked = False
        self._reached: dict[str, Any] = {}
        """How far it got with the tracker as it is open."""

    def send(self) -> tuple[Run, int]:
        """Send what has come since the last time; return the run as it stood, and how many rows were sent.

        Raises: TrackerError; LockedError if another process sends it; RunError, StorageError.
        """
        if not self._is_locked:
            lock = self._directory / f".{self._kind}.lock"
            self._lock.enter_context(
                lock_file(lock, lambda: f"{self._directory}: another process is sending it to {self._kind}.")
            )
            self._is_locked = True
        try:
            return self._send_new()
        finally:
            if self._tracker is None or not self._tracker.holds_back:
                self._unlock()

    def _send_new(self) -> tuple[Run, int]:
        run, noted = read_run(self._directory), read_json(self._note) or {}
        sent = {"step": -1, "evaluated": -1, "ended": None} | noted | self._reached
        rows, reached = new_rows(run, sent["step"])
        records = [record for record in run.evaluations() if record["step"] > sent["evaluated"]]
        ended = None if run.status == "running" else {"status": run.status, "steps": run.result.get("steps")}
        has_ended = ended not in (None, sent["ended"])
        if rows or records or has_ended:
            tracker = self._open(run, sent.get("key"), sent.get("project"))
            known = {"key": tracker.key, "project": self._card(run, sent.get("project")).project}
            write_json(self._note, noted | known)  # from now on the run is there, whatever becomes of its rows
            with _their_errors(self._kind):
                tracker.log([*rows, *map(evaluation_row, records)])
                if has_ended:
                    tracker.finish(run.status, numbers(run.result))
            evaluated = max((record["step"] for record in records), default=sent["evaluated"])
            sent |= known | {"step": reached, "evaluated": evaluated} | ({"ended": ended} if has_ended else {})
            if tracker.holds_back:
                self._reached = sent
            else:
                write_json(self._note, sent)
        return run, len(rows) + len(records)

    def _unlock(self) -> None:
        self._lock.close()
        self._is_locked = False

    @property
    def _note(self) -> Path:
        """Where it is kept how far this went; one file for each tracker, so that two do not write the same."""
        return self._directory / TRACKED.format(self._kind)

    def close(self) -> None:
        """Let the tracker bring everything to where it is kept, and only then take note of what it held back."""
        try:
            if self._tracker is not None:
                tracker, self._tracker = self._tracker, None
                reached, self._reached = self._reached, {}
                with _their_errors(self._kind):
                    tracker.close()
                if reached:
                    write_json(self._note, reached)
        finally:
            self._unlock()

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
                f"{kind} refused the rows: {first} Repeat the command to continue; rows just sent may appear twice."
            ) from error
