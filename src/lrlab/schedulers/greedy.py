"""Raise the rate while the loss gets better, and lower it while it does not: Hugging Face's GreedyLR."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer

from lrlab.schedulers.rule import RuleLR


class GreedyLR(RuleLR):
    """GreedyLR on the mean training loss of every `check_every` updates.

    A stretch is good if its mean loss is below the best so far by more than `threshold`, else bad. After more than
    `patience` good ones in a row every rate is divided by `factor`, after more than `patience` bad ones multiplied.
    The names are those of transformers.GreedyLR, whose rates these are, with what it calls epochs being stretches.

    Args:
        optimizer: any.
        check_every: updates in one stretch, >= 1.
        factor: in (0, 1).
        patience: stretches in a row that are let pass, >= 0.
        threshold: by which a mean loss must be below the best; of it where threshold_mode is "rel".
        threshold_mode: "abs" or "rel".
        cooldown: stretches after a decay in which nothing is counted, >= 0.
        warmup: stretches after a raise in which nothing is counted, >= 0.
        min_lr: floor of the rates, >= 0.
        max_lr: ceiling of the rates, above min_lr; the highest of the initial rates where it is None.
        reset_start: decays at the floor after which it starts anew from the initial rates, >= 1.
    Raises: ValueError for values outside these ranges.
    Source: "GreedyLR: A Novel Adaptive Learning Rate Scheduler", 2025, arXiv:2512.14527, as in transformers 5.23.
    """

    _STATE: ClassVar[tuple[str, ...]] = (*RuleLR._STATE, "_best", "_num_good", "_num_bad", "_holds", "_resets_in")
    rule = "greedy"
    timed_by = ("check_every", "patience")

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        check_every: int = 100,
        factor: float = 0.95,
        patience: int = 10,
        threshold: float = 1e-6,
        threshold_mode: str = "abs",
        cooldown: int = 0,
        warmup: int = 0,
        min_lr: float = 1e-6,
        max_lr: float | None = None,
        reset_start: int = 500,
    ) -> None:
        counts = {"patience": patience, "cooldown": cooldown, "warmup": warmup}
        for name, count in counts.items():
            self._require(count >= 0, f"{name} must be >= 0, got {count}")
        self._require(threshold_mode in ("rel", "abs"), f'threshold_mode must be "rel" or "abs", got {threshold_mode}')
        self._require(reset_start >= 1, f"reset_start must be >= 1, got {reset_start}")
        highest = max(float(group["lr"]) for group in optimizer.param_groups)
        self.max_lr = highest if max_lr is None else max_lr
        self._require(self.max_lr > min_lr, f"max_lr must be above min_lr = {min_lr}, got {self.max_lr}")
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.warmup = warmup
        self.reset_start = reset_start
        self._best = math.inf
        self._num_good = 0
        self._num_bad = 0
        self._holds = 0  # stretches in which nothing is counted
        self._resets_in = reset_start
        super().__init__(optimizer, check_every=check_every, factor=factor, min_lr=min_lr)

    @property
    def first_decision(self) -> int:
        """Updates until enough stretches were good in a row."""
        return (self.patience + 1) * self.check_every

    def _decide(self, losses: Tensor) -> dict[str, Any]:
        mean_loss, before = float(losses.mean()), self._rates()
        evidence: dict[str, Any] = {"mean_loss": mean_loss, "best": self._best, "threshold": self.patience}
        if self._holds:
            self._holds -= 1
            self._num_good = self._num_bad = 0
        else:
            self._count(mean_loss)
        evidence |= {"num_good": self._num_good, "num_bad": self._num_bad}
        if self._num_good > self.patience:
            self._raise()
        elif self._num_bad > self.patience:
            self._lower()
        after = self._rates()
        moved = "raise" if after > before else "decay"
        return {**evidence, "decision": "keep" if after == before else moved}

    def _count(self, mean_loss: float) -> None:
        margin = self.threshold * (self._best if self.threshold_mode == "rel" else 1.0)
        if mean_loss < self._best - margin or math.isinf(self._best):
            self._best = mean_loss
            self._num_bad = 0
            self._num_good += 1
        else:
            self._num_bad += 1
            self._num_good = 0

    def _raise(self) -> None:
        self._set_rates([max(rate, min(rate / self.factor, self.max_lr)) for rate in self._rates()])
        self._num_good, self._holds, self._resets_in = 0, self.warmup, self.reset_start

    def _lower(self) -> None:
        self._decay()
        if max(self._rates()) <= self.min_lr:
            self._resets_in -= 1
            if self._resets_in <= 0:
                self._start_anew()
        self._num_bad, self._holds = 0, self.cooldown

    def _start_anew(self) -> None:
        self._set_rates([float(group.get("initial_lr", group["lr"])) for group in self.optimizer.param_groups])
        self._best, self._num_good = math.inf, 0
        self._resets_in = self.reset_start
