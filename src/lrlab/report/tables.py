"""What a report says in words and numbers: tables of plain text, made from runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from lrlab.report.arms import summarise_arms
from lrlab.report.members import Member, by_arm, split_name
from lrlab.runs import Run
from lrlab.runs.storage import flat

NOTHING: Final = "\N{EN DASH}"
_NUMBER: Final = re.compile(rf"[<>+-]?[\d.,:]+(e[+-]?\d+)?(/\d+)?(\s[%s])?|-|{NOTHING}|n/a|not set")
_MOST_VALUES: Final = 20
"""Of one setting or fact, over all runs."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first cell of a row names it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    @cached_property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers alone, which are set flush right."""
        columns = list(zip(*self.rows, strict=True)) or [()] * len(self.header)
        return [all(_NUMBER.fullmatch(cell) for cell in column) for column in columns]


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix of an arm or a run, with where it comes from."""

    counts: list[list[int]]
    classes: list[str]
    source: str
    """Which evaluations it holds, as a sentence."""


def arms_table(members: Sequence[Member]) -> Table:
    """List each arm: how many runs count, their mean accuracy with its interval, and the value of every seed."""
    rows, has_mirror, split = [], any(member.mirror_accuracy is not None for member in members), split_name(members)
    for summary in summarise_arms(members):
        counted = [member for member in summary.members if member.is_counted]
        listed = [
            f"{percent(value)} (seed {seed})".replace(" ", "\N{NO-BREAK SPACE}")
            for seed, value in list(summary.accuracies.items())[:_MOST_VALUES]
        ]
        listed += [f"and {len(counted) - _MOST_VALUES} more, below"] if len(counted) > _MOST_VALUES else []
        mirrored = [share for member in counted if (share := member.mirror_accuracy) is not None]
        mirrored_mean = percent(float(np.mean(mirrored))) if mirrored and len(mirrored) == len(counted) else NOTHING
        left_out = [f"seed {member.seed}: {_explained(member)}" for member in summary.members if not member.is_counted]
        rows.append(
            (
                summary.arm,
                str(len(counted)),
                _shown(summary.mean, percent),
                _shown(summary.interval, lambda interval: " to ".join(map(percent, interval))),
                *([mirrored_mean] if has_mirror else []),
                ", ".join(listed) or NOTHING,
                ", ".join(left_out) or "none",
            )
        )
    header = (
        "arm",
        "n",
        f"mean {split} accuracy",
        "95 % interval of the mean",
        *(["mean with mirror images"] if has_mirror else []),
        f"{split} accuracy of each seed",
        "runs not counted",
    )
    return Table(header, rows)


def runs_table(members: Sequence[Member]) -> Table:
    """List each run with how it ended."""
    rows, split = [], split_name(members)
    has_mirror = any(member.mirror_accuracy is not None for member in members)
    extra = ["with mirror images"] if has_mirror else []
    header = ("arm", "seed", "status", "updates", "epochs", f"{split} accuracy", *extra, f"{split} loss",
              "evaluated at update", "training time", "images per second")  # fmt: skip
    for member in members:
        last, result = member.last, member.run.result
        rows.append(
            (
                member.arm,
                str(member.seed),
                member.status,
                f"{member.run.last_step:,}",
                _shown(result.get("epochs"), lambda epochs: f"{epochs:.2f}"),
                _shown(last.get("accuracy"), percent),
                *([_shown(member.mirror_accuracy, percent)] if has_mirror else []),
                _shown(last.get("loss"), lambda loss: f"{loss:.4f}"),
                _shown(last.get("step"), lambda step: f"{step:,}"),
                _shown(result.get("train_seconds"), _duration),
                _shown(result.get("images_per_second"), lambda speed: f"{speed:,.0f}"),
            )
        )
    return Table(header, rows)


def run_table(member: Member) -> Table:
    """List how a run alone ended, a row for each fact."""
    every = runs_table([member])
    return Table(("fact", "value"), list(zip(every.header, every.rows[0], strict=True))[1:])


def differences_table(members: Sequence[Member]) -> Table:
    """List the settings in which the arms, or runs of one arm, differ, seeds apart."""
    arms = {arm: _settings(seeds, lambda run: run.config) for arm, seeds in by_arm(members).items()}
    keys = dict.fromkeys(key for settings in arms.values() for key in settings if key != "seed")
    rows = []
    for key in keys:
        values = [settings.get(key, ["not set"]) for settings in arms.values()]
        if any(found != values[0] for found in values) or any(len(found) > 1 for found in values):
            rows.append((key, *map(_listed, values)))
    return Table(("setting", *arms), rows)


def settings_table(members: Sequence[Member], read: Callable[[Run], Mapping[str, Any]]) -> Table:
    """List settings or facts of all runs, every value that occurs, up to a number of them."""
    return Table(("name", "value"), [(name, _listed(found)) for name, found in _settings(members, read).items()])


def last_confusion(members: Sequence[Member]) -> Confusion | None:
    """Return the matrix of a run's last evaluation, or the sum of those of an arm's runs; None if there is none."""
    evaluated = [member for member in members if member.has_matrices]
    if not evaluated:
        return None
    last = [member.last for member in evaluated]
    steps = ", ".join(f"{step:,}" for step in sorted({evaluation["step"] for evaluation in last}))
    seeds = ", ".join(str(member.seed) for member in evaluated)
    source = f"Last evaluation of seed {seeds}, at update {steps}."
    if len(last) > 1:
        source = f"Sum over the last evaluations of seeds {seeds} (n = {len(last)}), at update {steps}."
    counts: list[list[int]] = np.sum([evaluation["confusion"] for evaluation in last], axis=0).tolist()
    return Confusion(counts, class_names(evaluated[0].run, len(counts)), source)


def classes_table(confusion: Confusion) -> Table:
    """List each class: its examples, its accuracy, and what it is most often taken for."""
    rows = []
    for index, (name, row) in enumerate(zip(confusion.classes, confusion.counts, strict=True)):
        total, errors = sum(row), [0 if column == index else count for column, count in enumerate(row)]
        worst = int(np.argmax(errors))
        taken_for = f"{confusion.classes[worst]} ({percent(errors[worst] / total)})" if any(errors) else NOTHING
        rows.append((name, f"{total:,}", percent(row[index] / total) if total else "n/a", taken_for))
    return Table(("class", "examples", "accuracy", "most often taken for"), rows)


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """A share with two decimals: what a test set of ten thousand tells apart."""
    return f"{100 * share:.2f}\N{NO-BREAK SPACE}%"


def what_diverged(member: Member) -> str:
    """What a run that diverged left to say, as a sentence after another; empty where there is nothing."""
    said = str(member.run.info.get("diverged", {}).get("message", "")).removeprefix("diverged: ")
    return f" {said[:1].upper()}{said[1:]}" if said else ""


def class_names(run: Run, num_classes: int) -> list[str]:
    """Names of the classes, or their numbers where a run does not say."""
    names = [str(name) for name in run.info.get("data", {}).get("classes", [])]
    return names if len(names) == num_classes else [str(index) for index in range(num_classes)]


def _explained(member: Member) -> str:
    if member.status == "complete":
        return "complete, never evaluated"
    at = member.run.info.get("diverged", {}).get("step", member.run.last_step)  # on a processor it has no row
    return f"{member.status} at update {at:,}"


def _settings(members: Sequence[Member], read: Callable[[Run], Mapping[str, Any]]) -> dict[str, list[str]]:
    """Dotted name -> the values that occur."""
    values: dict[str, dict[str, None]] = {}
    for member in members:
        for name, value in _flat(read(member.run)):
            values.setdefault(name, {})[value] = None
    return {name: list(found) for name, found in values.items()}


def _listed(values: Sequence[str]) -> str:
    more = [f"and {len(values) - _MOST_VALUES:,} more"] if len(values) > _MOST_VALUES else []
    return " | ".join([*values[:_MOST_VALUES], *more])


def _flat(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, value if isinstance(value, str) else json.dumps(value, default=str)) for name, value in flat(table)]


def _shown(value: Any, write: Callable[[Any], str]) -> str:
    return NOTHING if value is None else write(value)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}" if minutes else f"{seconds:.1f} s"
