"""What runs are compared by: a figure of their last evaluation, or a quantity that was measured beside it."""

from __future__ import annotations

import difflib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np

from lrlab.config.parts import did_you_mean, unknown
from lrlab.runs import Run
from lrlab.runs.afterwards import GENERALISATION, SHARPNESS, figures

KINDS: Final = ("accuracy", "loss", "accuracy_mirror")
LOST_IN_NOISE: Final = ("noise_scale/", "grad_cosine/", "update_ratio/")
"""Columns with values that are nan though nothing went wrong."""
MOST_COLUMNS: Final = 10
"""Columns that an error names one by one."""


class CompareError(ValueError):
    """What was named cannot be compared."""

    exit_code: ClassVar[int] = 2


class Measure(ABC):
    """What runs are compared by: one number of each."""

    @property
    @abstractmethod
    def name(self) -> str:
        """As it is asked for."""

    @property
    def words(self) -> str:
        """As in a sentence."""
        return self.name

    @property
    def better(self) -> Literal["more", "less"] | None:
        """Which is better; None where neither is, by itself."""
        return None

    @property
    def is_accuracy(self) -> bool:
        """Whether it is one, of which differences are in points."""
        return False

    @property
    def unit(self) -> str:
        """What follows a difference in a sentence."""
        return " points" if self.is_accuracy else ""

    @abstractmethod
    def final(self, run: Run) -> float | None:
        """Return its value at the end of a run; None if it has none."""

    def can_differ_by(self, size: float) -> bool:
        """Return whether two runs can differ so much: in accuracy by no more than all of it."""
        return not self.is_accuracy or size <= 1

    @abstractmethod
    def value_text(self, value: float) -> str:
        """Write a value: an accuracy in per cent."""

    @abstractmethod
    def size_text(self, value: float) -> str:
        """Write the size of a difference, without a sign: points for an accuracy."""

    def difference_text(self, value: float) -> str:
        """Write a difference with its sign."""
        return f"{'-' if math.copysign(1, value) < 0 else '+'}{self.size_text(abs(value))}"


@dataclass(frozen=True)
class OfEvaluations(Measure):
    """One figure of an evaluation, named as in a run's result: `test_accuracy`, `validation_loss`, ..."""

    split: str
    """Which images: test or validation."""
    kind: str
    """accuracy, loss, or accuracy_mirror: that with logits averaged over mirror images."""

    @property
    def name(self) -> str:
        """As in a run's result."""
        return f"{self.split}_{self.kind}"

    @property
    def words(self) -> str:
        """As in a sentence."""
        return f"{self.split} {self.kind.replace('_mirror', ' with mirror images')}"

    @property
    def is_accuracy(self) -> bool:
        """Whether more is better, and differences are in points."""
        return self.kind != "loss"

    @property
    def better(self) -> Literal["more", "less"]:
        """More of an accuracy, less of a loss."""
        return "more" if self.is_accuracy else "less"

    def final(self, run: Run) -> float | None:
        """Return its value at the end of a run; None if it has none."""
        value = run.result.get(self.name)
        return None if value is None else float(value)

    def is_in(self, evaluation: Mapping[str, Any]) -> bool:
        """Return whether an evaluation is of it: of its split, and with mirror images if they are asked for."""
        return evaluation["split"] == self.split and (self.kind != "accuracy_mirror" or bool(evaluation.get("mirror")))

    def reaches(self, evaluation: Mapping[str, Any], target: float) -> bool:
        """Return whether an evaluation is at the target or better."""
        if evaluation["split"] != self.split:
            return False
        mirrored = self.kind == "accuracy_mirror"
        value = (evaluation.get("mirror") or {}).get("accuracy") if mirrored else evaluation[self.kind]
        if value is None:  # a loss that was not finite
            return False
        return bool(value >= target if self.is_accuracy else value <= target)

    def value_text(self, value: float) -> str:
        """Write a value: an accuracy in per cent."""
        return f"{100 * value:.2f}" if self.is_accuracy else f"{value:.4f}"

    def size_text(self, value: float) -> str:
        """Write the size of a difference, without a sign: points for an accuracy."""
        return self.value_text(value)


@dataclass(frozen=True)
class OfRows(Measure):
    """A quantity of the rows, `hessian_max/whole` for instance, or of how a run generalises, `generalisation/ece`.

    Neither more nor less of it is better: how sharp a minimum is, say, is no merit by itself.
    """

    column: str

    @property
    def name(self) -> str:
        """As in the rows."""
        return self.column

    def final(self, run: Run) -> float | None:
        """Return the mean over the last tenth of its values, since single ones are noisy.

        None where the last one is not finite, but for quantities whose single values are lost in noise now and then:
        of those, the mean over what is finite.
        """
        if self.column.startswith(f"{GENERALISATION}/"):
            return figures(run.info.get(GENERALISATION) or {}).get(self.column.removeprefix(f"{GENERALISATION}/"))
        if self.column not in run.columns:
            return None
        _, values = run.series(self.column)
        last = values[-max(1, len(values) // 10) :]
        is_finite = np.isfinite(last)
        if not is_finite.any() or not (is_finite[-1] or self.column.startswith(LOST_IN_NOISE)):
            return None
        return float(last[is_finite].mean())

    def value_text(self, value: float) -> str:
        """Write a value."""
        return f"{value:.4g}"

    def size_text(self, value: float) -> str:
        """Write the size of a difference, without a sign."""
        return f"{value:.3g}"


def choose_measure(name: str | None, runs: Sequence[Run]) -> Measure:
    """Return the measure of that name; without one, the accuracy on the images that the runs were evaluated on.

    Raises: CompareError if no such measure is known, or if the runs were evaluated on different images.
    """
    splits = sorted({run.evaluated_split for run in runs})
    if name is None and len(splits) > 1:
        raise CompareError("Some runs were evaluated on test, some on validation images: compare them separately.")
    known = {measure.name: measure for split in splits for kind in KINDS for measure in [OfEvaluations(split, kind)]}
    if name is not None and name not in known and ("/" in name or any(name in run.columns for run in runs)):
        return _of_rows(name, runs)
    if name is not None and name not in known:
        alike = [*difflib.get_close_matches(name, known, n=1, cutoff=0.5), *_columns_called(name, runs)]
        hint = f" Did you mean {' or '.join(map(repr, alike))}?" if alike else ""
        raise CompareError(f"Unknown measure '{name}'. There are: {list_measures(runs) or 'none'}.{hint}")
    return known[name or f"{splits[0]}_accuracy"]


def list_measures(runs: Sequence[Run]) -> str:
    """Name what the runs have: figures of their last evaluation, then the columns of their rows, or groups of many."""
    measures = (OfEvaluations(split, kind) for split in sorted({run.evaluated_split for run in runs}) for kind in KINDS)
    names = [measure.name for measure in measures if any(measure.final(run) is not None for run in runs)]
    columns = sorted(_columns(runs))
    if len(columns) > MOST_COLUMNS:
        columns = sorted({name if "/" not in name else f"{name.split('/')[0]}/*" for name in columns})
    return ", ".join([*names, *columns])


def _columns(runs: Sequence[Run]) -> set[str]:
    beside = {f"{GENERALISATION}/{figure}" for run in runs for figure in figures(run.info.get(GENERALISATION) or {})}
    return beside | {column for run in runs for column in run.columns} - {"step", "epoch"}


def _columns_called(name: str, runs: Sequence[Run]) -> list[str]:
    """The columns whose last word is a name: train/loss for loss."""
    return [column for column in sorted(_columns(runs)) if column.rpartition("/")[2] == name]


def _of_rows(name: str, runs: Sequence[Run]) -> Measure:
    found = OfRows(name)
    if all(found.final(run) is None for run in runs):
        if name in _columns(runs):
            raise CompareError(f"No run ends in a {name} that is finite.")
        hint = did_you_mean(name, sorted(_columns(runs)))
        raise CompareError(f"No run has measured '{name}'. There are: {list_measures(runs) or 'none'}.{hint}")
    hows = {json.dumps(_measured_how(name, run), sort_keys=True) for run in runs if found.final(run) is not None}
    if len(hows) > 1:
        raise CompareError(f"{name} was measured differently: {' and '.join(sorted(hows))}. Measure again.")
    return found


def _measured_how(name: str, run: Run) -> Any:
    """What must be the same for two values to be of one quantity."""
    if name.startswith(f"{GENERALISATION}/"):
        finding = run.info[GENERALISATION]
        probe = finding.get("linear_probe")
        about_probe = {"probe": probe["data"]} if probe and "linear_probe" in name else {}
        return {key: finding.get(key) for key in ("split", "images")} | about_probe
    return run.info.get(SHARPNESS) if name in run.later_columns else None


def read_targets(texts: Sequence[str], measure: Measure, tasks: Sequence[str]) -> dict[str, float]:
    """Read targets, NUMBER for all tasks or TASK=NUMBER for one; return task -> target.

    Raises: CompareError for what is no such thing.
    """
    if texts and measure.better is None:
        raise CompareError(f"--target: {measure.name} can have none, since neither more nor less of it is better.")
    found: dict[str, float] = {}
    for text in texts:
        task, equals, number = text.rpartition("=")
        if equals and task not in tasks:
            raise CompareError(unknown("study", task, tasks))
        try:
            target = float(number)
        except ValueError:
            raise CompareError(f"--target {text}: must be a number, or STUDY=NUMBER.") from None
        if measure.is_accuracy and not 0 < target <= 1:
            raise CompareError(f"--target {text}: an accuracy must be above 0 and at most 1, as in --target 0.9.")
        if not measure.is_accuracy and not 0 < target < float("inf"):
            raise CompareError(f"--target {text}: a loss must be above 0 and finite.")
        found |= {task: target} if equals else {name: target for name in tasks if name not in found}
    return found
