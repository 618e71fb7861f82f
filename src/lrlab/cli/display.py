"""What a person sees while a run goes: a progress bar on a terminal, and a few lines for each evaluation."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lrlab.cli.output import Output, class_rows
from lrlab.cli.signals import stop_requests
from lrlab.experiments import Evaluated, Event, Experiment, RangeTest, RangeTestPlan, Sweep, Update
from lrlab.experiments.pace import Look, Pace
from lrlab.report import write_report
from lrlab.runs import read_run
from lrlab.runs.storage import INFO


class Display(Output):
    """Shows what happens in a run, and what came of it."""

    def conclude(self, directory: Path) -> None:
        """Write the report of a run that is over, however it ended, and say where to look."""
        if not (directory / INFO).exists():  # what is raised says what could not be written for that
            self.say(
                f"{directory} was moved or deleted during training. If it was moved, lrlab resume NEW-PATH continues "
                "from its last checkpoint."
            )
            return
        ended = read_run(directory)
        result, split = ended.result, ended.evaluated_split
        if not result:  # not even its end could be written, which is said by what is raised
            return
        accuracy, mirrored = result[f"{split}_accuracy"], result.get(f"{split}_accuracy_mirror")
        at = ended.evaluations()[-1]["step"] if accuracy is not None else result["steps"]
        of = "" if at == result["steps"] else f" at update {at:,}"  # it was stopped since
        found = "" if accuracy is None else f"{split} accuracy {accuracy:.2%}{of}, "
        found += "" if mirrored is None else f"with mirror images {mirrored:.2%}, "
        self.say(f"{ended.status}: {found}{result['steps']:,} updates, {result['train_seconds']:.1f} s of training")
        self.say(f"figures and page: {write_report(directory)}")
        if ended.status in ("preempted", "failed"):
            self.say(f"to continue: lrlab resume {shlex.quote(str(directory))}")
        self.document({"run": str(directory), "status": ended.status, "result": dict(result)})

    def follow(self, experiment: Experiment, directory: Path, *, resumes: bool) -> None:
        """Show one run to its end; whatever happens here, the run is ended in order.

        Raises: Stopped after a signal to this process, or to another one of its ranks, the run being saved.
        """
        with stop_requests() as stop:
            events = experiment.run(directory, resumes=resumes, stop=lambda: stop.number or 0)
            with closing(events), self._bar() as bar:
                bar.start("", num_steps=experiment.num_steps, batch_size=experiment.config.batch_size)
                for index, event in enumerate(events):
                    if resumes and not index:
                        self.say(_from_where(event, experiment.num_steps))
                    if isinstance(event, Evaluated):
                        self.say(describe(event))
                    bar.show(event)
            # one may have come too late, and of several ranks one to any of them is one to all
            stop.number = experiment.stopped or None

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
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as shown:
            yield _Bar(shown, shown.add_task("", total=None, state=""))


def _from_where(event: Event, num_steps: int) -> str:
    made = event.step - isinstance(event, Update)
    if not made:
        return "starts from the beginning: the run stopped before its first checkpoint"
    return f"continues after update {made:,} of {num_steps:,}"


class _Bar:
    """Moves a progress bar now and then: loss, rate, images per second, time left."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def start(self, title: str, *, num_steps: int, batch_size: int) -> None:
        """Begin with a run."""
        self._progress.reset(self._task, total=num_steps, description=title, state="")
        self._pace = Pace(batch_size=batch_size)

    def show(self, event: Event) -> None:
        """Take note of an event, and move the bar if the last look is long enough ago."""
        if not self._progress.disable and (look := self._pace.look(event)) is not None:
            self._progress.update(self._task, completed=look.step, state=_state(look))


def _state(look: Look) -> str:
    speed = "" if look.images_per_second is None else f"  {look.images_per_second:,.0f} images/s"
    return f"loss {look.loss:.3f}  lr {look.lr:.1e}{speed}"


def describe(event: Evaluated) -> str:
    """Say what an evaluation found, class by class."""
    found = event.evaluation
    head = f"step {event.step:,} (epoch {event.epoch}): {event.split} loss {found.loss:.3f}, "
    head += f"accuracy {found.accuracy:.2%}"
    head += f", with mirror images {found.mirror.accuracy:.2%}" if found.mirror else ""
    return "\n".join([head, *class_rows([*zip(event.classes, found.class_accuracy, strict=True)])])


def describe_sweep(sweep: Sweep) -> str:
    """Say what one sweep suggests, or why nothing, and where it diverged."""
    text = f"seed {sweep.seed}: "
    if sweep.suggestion is None:
        text += f"no suggestion: {sweep.reason}"
    else:
        text += f"{sweep.suggestion:.2e}, a tenth of the rate with the lowest loss ({min(sweep.smoothed):.3f})"
    return text + (f"; diverged at {sweep.diverged_at:.2e}" if sweep.diverged_at is not None else "")


def rate_charts(rates: Mapping[str, Sequence[float]]) -> str:
    """Draw the rates of layer groups, those that are the same once; named where they are not all."""
    alike: dict[tuple[float, ...], list[str]] = {}
    for name, of_group in rates.items():
        alike.setdefault(tuple(of_group), []).append(name)
    if len(alike) == 1:
        return rate_chart(next(iter(alike)))
    return "\n\n".join(f"{', '.join(names)}:\n{rate_chart(of_group)}" for of_group, names in alike.items())


def rate_chart(
    rates: Sequence[float], *, num_rows: int = 24, width: int = 50, of: str = "update", what: str = "lr"
) -> str:
    """Draw rates as rows of text: update, rate, and a bar of length proportional to it."""
    last = len(rates) - 1
    steps = sorted({round(last * row / max(1, num_rows - 1)) for row in range(num_rows)})
    top = max(rates) or 1.0
    lines = [f"{step + 1:>9,}  {rates[step]:.3e}  {'#' * round(width * rates[step] / top)}".rstrip() for step in steps]
    return "\n".join([f"{of:>9}  {what:>9}", *lines])
