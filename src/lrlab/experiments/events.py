"""What a run yields."""

from __future__ import annotations

from dataclasses import dataclass

from lrlab.data.images import SplitName
from lrlab.training import Evaluation, Update


@dataclass(frozen=True)
class Evaluated:
    """The test set was evaluated, or the validation images where some are set aside."""

    step: int
    epoch: int
    split: SplitName
    evaluation: Evaluation
    classes: tuple[str, ...]


Event = Update | Evaluated
"""What a run yields."""
