"""What a report says in words and numbers: tables of plain text, made from runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lrlab.report.curves import by_arm, decay_steps, last_step, mirror_accuracy, read_evaluations, split_name
from lrlab.runs import Run

NOTHING: Final = "\N{EN DASH}"
_NUMBER: Final = re.compile(rf"-?[\d.,:]+(e[+-]?\d+)?(\s[%s])?|{NOTHING}|n/a|not set")
_MOST_DECISIONS: Final = 100
_KNOWN_OF_A_DECISION: Final = frozenset({"step", "rule", "threshold", "decision", "lr_before", "lr_after"})


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first cell of a row names it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
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


def is_counted(run: Run) -> bool:
    """Whether a run has come to its end and stands for its arm: no figure of an arm holds any other."""
    return run.status == "complete" and bool(read_evaluations(run))


def arms_table(runs: Sequence[Run]) -> Table:
    """List each arm: how many runs count, their mean accuracy, and the value of every seed."""
    rows, has_mirror = [], _has_mirror(runs)
    for arm, members in by_arm(runs).items():
        counted = [run for run in members if is_counted(run)]
        values = [float(read_evaluations(run)[-1]["accuracy"]) for run in counted]
        listed = [
            f"{percent(value)} (seed {run.seed})".replace(" ", "\N{NO-BREAK SPACE}")
            for run, value in zip(counted, values, strict=True)
        ]
        mirrored = [share for run in counted if (share := mirror_accuracy(run)) is not None]
        mirrored_mean = percent(float(np.mean(mirrored))) if mirrored and len(mirrored) == len(values) else NOTHING
        left_out = [f"seed {run.seed}: {_explained(run)}" for run in members if not is_counted(run)]
        rows.append(
            (
                arm,
                str(len(values)),
                percent(float(np.mean(values))) if values else NOTHING,
                *([mirrored_mean] if has_mirror else []),
                ", ".join(listed) or NOTHING,
                ", ".join(left_out) or "none",
            )
        )
    extra = ["mean with mirror images"] if has_mirror else []
    split = split_name(runs)
    header = ("arm", "n", f"mean {split} accuracy", *extra, f"{split} accuracy of each seed", "runs not counted")
    return Table(header, rows)


def runs_table(runs: Sequence[Run]) -> Table:
    """List each run with how it ended."""
    rows, has_mirror, split = [], _has_mirror(runs), split_name(runs)
    extra = ["with mirror images"] if has_mirror else []
    header = ("arm", "seed", "status", "updates", "epochs", f"{split} accuracy", *extra, f"{split} loss",
              "evaluated at update", "training time", "images per second")  # fmt: skip
    for run in runs:
        last: Mapping[str, Any] = read_evaluations(run)[-1] if read_evaluations(run) else {}
        speed, seconds = run.result.get("images_per_second"), run.result.get("train_seconds")
        rows.append(
            (
                run.arm,
                str(run.seed),
                run.status,
                f"{last_step(run):,}",
                _shown(run.result.get("epochs"), lambda epochs: f"{epochs:.2f}"),
                _shown(last.get("accuracy"), percent),
                *([_shown(mirror_accuracy(run), percent)] if has_mirror else []),
                _shown(last.get("loss"), lambda loss: f"{loss:.4f}"),
                _shown(last.get("step"), lambda step: f"{step:,}"),
                _shown(seconds, _duration),
                _shown(speed, lambda speed: f"{speed:,.0f}"),
            )
        )
    return Table(header, rows)


def run_table(run: Run) -> Table:
    """List how a run alone ended, a row for each fact."""
    every = runs_table([run])
    return Table(("", "value"), list(zip(every.header, every.rows[0], strict=True))[1:])


def differences_table(runs: Sequence[Run]) -> Table:
    """List the settings in which the arms differ, seeds apart."""
    arms = {arm: _settings(members, lambda run: run.config) for arm, members in by_arm(runs).items()}
    keys = dict.fromkeys(key for settings in arms.values() for key in settings if key != "seed")
    rows = [(key, *(settings.get(key, "not set") for settings in arms.values())) for key in keys]
    return Table(("setting", *arms), [row for row in rows if len(set(row[1:])) > 1])


def settings_table(runs: Sequence[Run], read: Callable[[Run], Mapping[str, Any]]) -> Table:
    """List settings or facts of all runs, every value that occurs."""
    return Table(("name", "value"), list(_settings(runs, read).items()))


def decisions_table(run: Run) -> Table:
    """List what the schedule decided: of very many decisions, the first hundred."""
    header = ("step", "measured", "threshold", "decision", "rate before", "rate after")
    rows = [
        (
            f"{decision['step']:,}",
            ", ".join(
                f"{name} = {_number(value)}" for name, value in decision.items() if name not in _KNOWN_OF_A_DECISION
            ),
            _number(decision.get("threshold")),
            str(decision["decision"]),
            _rates(decision["lr_before"]),
            _rates(decision["lr_after"]),
        )
        for decision in run.decisions()[:_MOST_DECISIONS]
    ]
    return Table(header, rows)


def decisions_summary(run: Run) -> str:
    """Say in a sentence what the schedule of a run decided."""
    num_decisions = len(run.decisions())
    moved, at_floor = decay_steps(run)
    sentence = f"{count(num_decisions, 'decision')}, {count(len(moved), 'decay')}"
    if moved:
        listed = ", ".join(f"{step:,}" for step in moved[:20]) + (", ..." if len(moved) > 20 else "")
        sentence += f" (at update {listed})"
    if at_floor:
        sentence += f", {count(len(at_floor), 'decay')} at the floor, where the rate stays as it is"
    if num_decisions > _MOST_DECISIONS:
        sentence += f". The first {_MOST_DECISIONS} are listed; all are in decisions.jsonl"
    return f"{sentence}."


def last_confusion(runs: Sequence[Run]) -> Confusion | None:
    """Return the matrix of a run's last evaluation, or the sum of those of an arm's runs; None if there is none."""
    evaluated = [run for run in runs if read_evaluations(run)]
    if not evaluated:
        return None
    last = [read_evaluations(run)[-1] for run in evaluated]
    steps = ", ".join(f"{step:,}" for step in sorted({evaluation["step"] for evaluation in last}))
    seeds = ", ".join(str(run.seed) for run in evaluated)
    source = f"Last evaluation of seed {seeds}, at update {steps}."
    if len(last) > 1:
        source = f"Sum over the last evaluations of seeds {seeds} (n = {len(last)}), at update {steps}."
    counts: list[list[int]] = np.sum([evaluation["confusion"] for evaluation in last], axis=0).tolist()
    return Confusion(counts, _classes(evaluated[0], len(counts)), source)


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


def _classes(run: Run, num_classes: int) -> list[str]:
    """Names of the classes, or their numbers where a run does not say."""
    names = [str(name) for name in run.info.get("data", {}).get("classes", [])]
    return names if len(names) == num_classes else [str(index) for index in range(num_classes)]


def _has_mirror(runs: Sequence[Run]) -> bool:
    return any(mirror_accuracy(run) is not None for run in runs)


def _explained(run: Run) -> str:
    return f"{run.status} at update {last_step(run):,}" if run.status != "complete" else "complete, never evaluated"


def _settings(runs: Sequence[Run], read: Callable[[Run], Mapping[str, Any]]) -> dict[str, str]:
    """Dotted name -> value, or all values that occur in several runs."""
    values: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, value in _flat(read(run)):
            values.setdefault(name, {})[value] = None
    return {name: " | ".join(found) for name, found in values.items()}


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs = []
    for name, value in table.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{name}.")
        else:
            pairs.append((f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, default=str)))
    return pairs


def _shown(value: Any, write: Callable[[Any], str]) -> str:
    return NOTHING if value is None else write(value)


def _number(value: Any) -> str:
    if value is None:
        return NOTHING
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rates(rates: Sequence[float]) -> str:
    """The rates of all groups, once where they are the same."""
    return ", ".join(f"{rate:.4g}" for rate in dict.fromkeys(rates))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}" if minutes else f"{seconds:.1f} s"
