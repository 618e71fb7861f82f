"""The live table of a study: a row for each run under way, and a row for each arm."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lrlab.studies import Ended, Member, Progress, StudyEvent, Waiting


@dataclass
class _Runs:
    """How the runs of an arm stand, or those by which rates are found."""

    total: int
    outcomes: Counter[str] = field(default_factory=Counter)
    accuracies: list[float] = field(default_factory=list)


class StudyTable:
    """How a study stands, drawn anew whenever it is looked at.

    Args:
        tuning: number of the runs by which rates are found.
        arms: name of an arm -> number of its runs.
    """

    def __init__(self, *, tuning: int, arms: Mapping[str, int]) -> None:
        self._tuning = _Runs(tuning)
        self._arms = {arm: _Runs(total) for arm, total in arms.items()}
        self._running: dict[str, tuple[Member, Progress]] = {}
        self._first_steps: dict[str, int] = {}
        self._shares = 0.0  # of runs, made in this call and over
        self._started = time.monotonic()

    def take(self, member: Member, event: StudyEvent) -> None:
        """Take note of what happened to a run."""
        if isinstance(event, Waiting):
            return
        if isinstance(event, Progress):
            self._running[member.name] = member, event
            self._first_steps.setdefault(member.name, event.step - 1)
            return
        self._running.pop(member.name, None)
        if isinstance(event, Ended):
            runs = self._tuning if member.rate is not None else self._arms[member.arm]
            runs.outcomes[event.outcome] += 1
            if event.accuracy is not None:
                runs.accuracies.append(event.accuracy)
            if not event.was_there:
                self._shares += 1

    def seconds_left(self) -> float | None:
        """Estimate the time to the end, as if every run took as long as those so far; None before there are any."""
        under_way = [
            (progress.step - self._first_steps[name], progress.num_steps)
            for name, (_, progress) in self._running.items()
        ]
        made = self._shares + sum(steps / num_steps for steps, num_steps in under_way)
        ended = sum(runs.outcomes.total() for runs in self._all())
        left = sum(runs.total for runs in self._all()) - ended
        left_of_those = sum(progress.step / progress.num_steps for _, progress in self._running.values())
        seconds = time.monotonic() - self._started
        return seconds * (left - left_of_those) / made if made > 0 else None

    def __rich__(self) -> Group:
        return Group(self._runs_table(), self._arms_table())

    def _all(self) -> list[_Runs]:
        return [self._tuning, *self._arms.values()]

    def _runs_table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("run", "updates", "", "loss", "lr", "images/s"):
            table.add_column(name, justify="left" if name in ("run", "") else "right", no_wrap=True)
        for member, progress in self._running.values():
            speed = progress.images_per_second
            table.add_row(
                Text(member.name, overflow="ellipsis"),
                f"{progress.step:,}/{progress.num_steps:,}",
                ProgressBar(total=progress.num_steps, completed=progress.step, width=20),
                f"{progress.loss:.3f}",
                f"{progress.lr:.1e}",
                "" if speed is None else f"{speed:,.0f}",
            )
        return table

    def _arms_table(self) -> Table:
        left = self.seconds_left()
        table = Table(box=None, padding=(0, 2, 0, 0), caption_justify="left")
        table.caption = None if left is None else f"about {duration(left)} left"
        for name in ("arm", "done", "running", "failed", "mean accuracy"):
            table.add_column(name, justify="left" if name == "arm" else "right", no_wrap=True)
        running = Counter(member.arm if member.rate is None else None for member, _ in self._running.values())
        rows = [*([(None, self._tuning)] if self._tuning.total else []), *self._arms.items()]
        for arm, runs in rows:
            table.add_row(
                Text("(tuning)" if arm is None else arm, overflow="ellipsis"),
                f"{runs.outcomes['complete'] + runs.outcomes['diverged']}/{runs.total}",
                str(running[arm] or ""),
                str(runs.outcomes["failed"] or ""),
                f"{fmean(runs.accuracies):.2%}" if arm is not None and runs.accuracies else "",
            )
        return table


def duration(seconds: float) -> str:
    """Seconds as hours and minutes, or minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
