"""What runs are compared by: a figure of their last evaluation, or a quantity that was measured beside it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np

from lrlab.runs import Run
from lrlab.runs.afterwards import GENERALISATION, figures
from lrlab.runs.rows import Series

LOST_IN_NOISE: Final = ("noise_scale/", "grad_cosine/", "update_ratio/")
"""Columns with values that are nan though nothing went wrong."""


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
        last = _last_tenth(values)
        is_finite = np.isfinite(last)
        if not is_finite.any() or not (is_finite[-1] or self.column.startswith(LOST_IN_NOISE)):
            return None
        return float(last[is_finite].mean())

    def updates(self, run: Run) -> list[int]:
        """Return the updates that the value at the end of a run is of, where it has one; the last one is its end."""
        if self.column.startswith(f"{GENERALISATION}/"):
            return [int(run.info[GENERALISATION].get("step", run.last_step))]
        steps, _ = run.series(self.column)
        return [int(step) for step in _last_tenth(steps)]

    def value_text(self, value: float) -> str:
        """Write a value."""
        return f"{value:.4g}"

    def size_text(self, value: float) -> str:
        """Write the size of a difference, without a sign."""
        return f"{value:.3g}"


def _last_tenth(values: Series) -> Series:
    return values[-max(1, len(values) // 10) :]
