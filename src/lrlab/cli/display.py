"""What a person sees while runs go: a progress bar on a terminal, and a few lines for each evaluation or run."""

from __future__ import annotations

import json as json_module
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lrlab.experiments import (
    Ended,
    Evaluated,
    Event,
    Experiment,
    Member,
    RangeTest,
    RangeTestPlan,
    Started,
    StudyEvent,
    Sweep,
    Update,
)
from lrlab.report import write_report
from lrlab.runs import read_run

SECONDS_BETWEEN_LOOKS = 0.25
"""The loss is fetched from the device for the bar this often, and not at every update."""


class Display:
    """Shows what happens: the events of runs, one after another, and what came of them.

    Args:
        json: whether a JSON document is wanted on stdout; all else then goes to stderr.
    """

    def __init__(self, *, json: bool) -> None:
        self._console = Console(stderr=json)
        self._wants_document = json

    def say(self, text: str) -> None:
        """Print a line as it is: names in it are not markup."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def document(self, document: dict[str, Any]) -> None:
        """Print a JSON document on stdout, where one is wanted."""
        if self._wants_document:
            sys.stdout.write(json_module.dumps(document, allow_nan=False) + "\n")

    def conclude(self, directory: Path) -> None:
        """Write the report of a run that is over, however it ended, and say where to look."""
        ended = read_run(directory)
        result = ended.result
        found = "" if result["test_accuracy"] is None else f"test accuracy {result['test_accuracy']:.2%}, "
        if result.get("test_accuracy_mirror") is not None:
            found += f"with mirror images {result['test_accuracy_mirror']:.2%}, "
        self.say(f"{ended.status}: {found}{result['steps']:,} updates, {result['train_seconds']:.1f} s of training")
        self.say(f"figures and page: {write_report(directory)}")
        self.document({"run": str(directory), "status": ended.status, "result": dict(result)})

    def follow(self, experiment: Experiment, events: Generator[Event, None, None]) -> None:
        """Show one run to its end; whatever happens here, the run is ended in order."""
        with closing(events), self._bar() as bar:
            bar.start("", num_steps=experiment.num_steps, batch_size=experiment.config.batch_size)
            for event in events:
                if isinstance(event, Evaluated):
                    self.say(describe(event))
                bar.show(event)

    def follow_study(
        self, happenings: Generator[tuple[Member, StudyEvent], None, None], *, num_members: int
    ) -> dict[str, int]:
        """Show a study to its end, a few lines a run; return how many runs ended in which way."""
        outcomes: dict[str, int] = {}
        evaluated: Evaluated | None = None
        with closing(happenings), self._bar() as bar:
            for member, event in happenings:
                number = f"[{sum(outcomes.values()) + 1}/{num_members}]"
                match event:
                    case Started():
                        title = f"{number} {member.arm} seed {member.seed}"
                        bar.start(title, num_steps=event.num_steps, batch_size=member.config.batch_size)
                        evaluated = None
                    case Ended():
                        self.say(f"{number} {describe_end(member, event, evaluated)}")
                        outcomes[event.outcome] = outcomes.get(event.outcome, 0) + 1
                        evaluated = None
                    case _:
                        evaluated = event if isinstance(event, Evaluated) else evaluated
                        bar.show(event)
        return outcomes

    def follow_range_test(self, plan: RangeTestPlan, events: Iterator[Update | Sweep]) -> RangeTest:
        """Show a range test to its end, a line a sweep."""
        sweeps: list[Sweep] = []
        with self._bar() as bar:
            for event in events:
                if isinstance(event, Sweep):
                    sweeps.append(event)
                    self.say(describe_sweep(event))
                    continue
                if event.step == 1:
                    title = f"[{len(sweeps) + 1}/{len(plan.seeds)}]"
                    bar.start(title, num_steps=plan.rates.num_steps, batch_size=plan.config.batch_size)
                bar.show(event)
        return RangeTest(plan.rates, tuple(sweeps))

    @contextmanager
    def _bar(self) -> Iterator[_Bar]:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeRemainingColumn(),
        )
        shown = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        with shown:
            yield _Bar(shown, shown.add_task("", total=None, state=""))


class _Bar:
    """Moves a progress bar now and then: loss, rate, images per second, time left."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def start(self, title: str, *, num_steps: int, batch_size: int) -> None:
        """Begin with a run."""
        self._progress.reset(self._task, total=num_steps, description=title, state="")
        self._batch_size = batch_size
        self._looked, self._step = time.monotonic(), 0

    def show(self, event: Event) -> None:
        """Take note of an event, and move the bar if the last look is long enough ago."""
        seconds = time.monotonic() - self._looked
        if isinstance(event, Evaluated):
            self._looked, self._step = time.monotonic(), event.step  # an evaluation is no training time
        elif seconds >= SECONDS_BETWEEN_LOOKS and not self._progress.disable:
            speed = (event.step - self._step) * self._batch_size / seconds
            self._progress.update(self._task, completed=event.step, state=_state(event, speed))
            self._looked, self._step = time.monotonic(), event.step


def _state(update: Update, images_per_second: float) -> str:
    loss, lr = float(update.loss), max(map(float, update.lrs))  # waits for the device, a few times a second
    return f"loss {loss:.3f}  lr {lr:.1e}  {images_per_second:,.0f} images/s"


def describe(event: Evaluated) -> str:
    """Say what an evaluation found, class by class."""
    found = event.evaluation
    head = f"step {event.step:,} (epoch {event.epoch}): test loss {found.loss:.3f}, accuracy {found.accuracy:.2%}"
    head += f", with mirror images {found.mirror.accuracy:.2%}" if found.mirror else ""
    return "\n".join([head, *_class_rows(event)])


def describe_end(member: Member, ended: Ended, evaluated: Evaluated | None) -> str:
    """Say how a run of a study ended, and what its last evaluation found in each class if it was made now."""
    text = f"{member.arm} seed {member.seed}: {ended.outcome}"
    text += " (already there)" if ended.was_there else ""
    text += f": {ended.message}" if ended.message else f", test accuracy {ended.test_accuracy:.2%}"
    return "\n".join([text, *(_class_rows(evaluated) if evaluated else [])])


def describe_sweep(sweep: Sweep) -> str:
    """Say what one sweep suggests, or why nothing, and where it diverged."""
    text = f"seed {sweep.seed}: "
    if sweep.suggestion is None:
        text += f"no suggestion: {sweep.reason}"
    else:
        text += f"{sweep.suggestion:.2e}, a tenth of the rate with the least loss ({min(sweep.smoothed):.3f})"
    return text + (f"; diverged at {sweep.diverged_at:.2e}" if sweep.diverged_at is not None else "")


def _class_rows(event: Evaluated, *, num_columns: int = 5) -> list[str]:
    cells = [
        f"{name[:14]} {'n/a' if share is None else format(share, '.0%')}"
        for name, share in zip(event.classes, event.evaluation.class_accuracy, strict=True)
    ]
    width = max(map(len, cells)) + 2
    rows = (cells[start : start + num_columns] for start in range(0, len(cells), num_columns))
    return ["  " + "".join(cell.ljust(width) for cell in row).rstrip() for row in rows]


def rate_charts(rates: Mapping[str, Sequence[float]]) -> str:
    """Draw the rates of layer groups, those that are the same once; named where they are not all."""
    alike: dict[tuple[float, ...], list[str]] = {}
    for name, of_group in rates.items():
        alike.setdefault(tuple(of_group), []).append(name)
    if len(alike) == 1:
        return rate_chart(next(iter(alike)))
    return "\n\n".join(f"{', '.join(names)}:\n{rate_chart(of_group)}" for of_group, names in alike.items())


def rate_chart(rates: Sequence[float], *, num_rows: int = 24, width: int = 50, of: str = "update") -> str:
    """Draw rates as rows of text: update, rate, and a bar of length proportional to it."""
    last = len(rates) - 1
    steps = sorted({round(last * row / max(1, num_rows - 1)) for row in range(num_rows)})
    top = max(rates) or 1.0
    lines = [f"{step + 1:>9,}  {rates[step]:.3e}  {'#' * round(width * rates[step] / top)}".rstrip() for step in steps]
    return "\n".join([f"{of:>9}         lr", *lines])
