"""What a person sees while a run goes: a progress bar on a terminal, and a few lines for each evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lrlab.experiments import Ended, Evaluated, Event, Member, Update

SECONDS_BETWEEN_LOOKS = 0.25
"""The loss is fetched from the device for the bar this often, and not at every update."""


class Display:
    """Shows the events of runs, one after another.

    Args:
        console: where to; the bar appears only if it is a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        """Print a line as it is: names in it are not markup."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def follow(self, events: Iterable[Event], *, num_steps: int, batch_size: int) -> None:
        """Show one run to its end."""
        with self._bar() as (bar, task):
            for event in _paced(events, bar, task, num_steps=num_steps, batch_size=batch_size):
                bar.console.print(describe(event), markup=False, highlight=False, soft_wrap=True)

    def follow_study(self, happenings: Iterable[tuple[Member, Event | Ended]], members: list[Member]) -> dict[str, int]:
        """Show a study to its end, a line a run; return how many runs ended in which way."""
        outcomes: dict[str, int] = {}
        with self._bar() as (bar, task):
            for number, (member, ended) in enumerate(_endings(happenings, bar, task), start=1):
                outcomes[ended.outcome] = outcomes.get(ended.outcome, 0) + 1
                text = f"[{number}/{len(members)}] {member.arm} seed {member.seed}: {ended.outcome}"
                text += " (already there)" if ended.was_there else ""
                text += f": {ended.message}" if ended.message else f", test accuracy {ended.test_accuracy:.2%}"
                bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        return outcomes

    @contextmanager
    def _bar(self) -> Iterator[tuple[Progress, TaskID]]:
        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        with bar:
            yield bar, bar.add_task("", total=None, state="")


def _paced(
    events: Iterable[Event], bar: Progress, task: TaskID, *, num_steps: int, batch_size: int
) -> Iterator[Evaluated]:
    """Move the bar now and then, and pass on the evaluations."""
    looked, step_then = time.monotonic(), 0
    for event in events:
        if isinstance(event, Evaluated):
            yield event
            looked, step_then = time.monotonic(), event.step  # an evaluation is no training time
            continue
        seconds = time.monotonic() - looked
        if seconds >= SECONDS_BETWEEN_LOOKS or event.step == num_steps:
            speed = (event.step - step_then) * batch_size / max(seconds, 1e-9)
            bar.update(task, completed=event.step, total=num_steps, state=_state(event, speed))
            looked, step_then = time.monotonic(), event.step


def _endings(
    happenings: Iterable[tuple[Member, Event | Ended]], bar: Progress, task: TaskID
) -> Iterator[tuple[Member, Ended]]:
    looked = time.monotonic()
    for member, event in happenings:
        if isinstance(event, Ended):
            yield member, event
        elif isinstance(event, Update) and time.monotonic() - looked >= SECONDS_BETWEEN_LOOKS:
            looked = time.monotonic()
            bar.update(
                task,
                completed=event.step,
                total=None,
                description=f"{member.arm} seed {member.seed}",
                state=f"loss {float(event.loss):.3f}  lr {max(map(float, event.lrs)):.1e}",
            )


def _state(update: Update, images_per_second: float) -> str:
    loss, lr = float(update.loss), max(map(float, update.lrs))  # waits for the device, a few times a second
    return f"loss {loss:.3f}  lr {lr:.1e}  {images_per_second:,.0f} images/s"


def describe(event: Evaluated) -> str:
    """Say what an evaluation found, class by class."""
    found = event.evaluation
    lines = [f"step {event.step:,} (epoch {event.epoch}): test loss {found.loss:.3f}, accuracy {found.accuracy:.2%}"]
    cells = [
        f"{name[:14]} {'n/a' if share is None else format(share, '.0%')}"
        for name, share in zip(event.classes, found.class_accuracy, strict=True)
    ]
    width = max(map(len, cells)) + 2
    rows = (cells[start : start + 5] for start in range(0, len(cells), 5))
    return "\n".join([*lines, *("  " + "".join(cell.ljust(width) for cell in row).rstrip() for row in rows)])


def rate_chart(rates: Sequence[float], *, num_rows: int = 24, width: int = 50) -> str:
    """Draw rates as rows of text: update, rate, and a bar of length proportional to it."""
    last = len(rates) - 1
    steps = sorted({round(last * row / max(1, num_rows - 1)) for row in range(num_rows)})
    top = max(rates) or 1.0
    lines = [f"{step + 1:>9,}  {rates[step]:.3e}  {'#' * round(width * rates[step] / top)}".rstrip() for step in steps]
    return "\n".join(["   update         lr", *lines, ""])
