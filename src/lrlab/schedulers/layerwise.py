"""Rates per layer: each parameter group gets a multiple of what a scheduler says, constant, planned or measured."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from lrlab.schedulers.base import SignalScheduler
from lrlab.schedules import Schedule


@dataclass(frozen=True)
class WeakGradients:
    """A multiplier that is high where a group's gradient is weak beside those of the other groups, as measured.

    With r the root mean square of the group's gradient, and <log r> the mean of log r over the groups that have such a
    multiplier, whatever its settings, averaged over the measurements so far:

        log multiplier = strength * (<log r> - log r) * (rate / highest rate so far)

    so that the multipliers of the groups are 1 in geometric mean, and fade to 1 as the rate decays.
    """

    strength: float = 0.5
    """0: all the same; 1: rate times gradient is the same in all groups. In [0, 1]."""
    every: int = 100
    """Updates between two measurements of the group, >= 1; each waits for the device once."""
    memory: float = 0.9
    """Share of the average that is kept at a measurement, in [0, 1)."""
    limit: float = 10.0
    """No multiplier is above it, or below 1 / limit; >= 1."""

    def __post_init__(self) -> None:
        if not (0 <= self.strength <= 1 and self.every >= 1 and 0 <= self.memory < 1 and self.limit >= 1):
            raise ValueError(
                "WeakGradients: strength must be in [0, 1], every >= 1, memory in [0, 1) and limit >= 1, "
                f"got {self.strength}, {self.every}, {self.memory} and {self.limit}."
            )


Multiplier = float | Schedule | WeakGradients
"""Of the rate of a group: a number, a function of the update index, or measured."""


class LayerwiseLR(SignalScheduler):
    """Rates per layer: rate of a group = rate that `scheduler` gives it * its multiplier * its `lr_scale`.

    Any scheduler will do, PyTorch's own as well: before it steps it finds the rates as it left them, so that it knows
    nothing of the multipliers. A group without a multiplier has 1; a key `lr_scale` of a group, as timm writes it, is
    honoured. Decisions of the scheduler tell its own rates.

    Args:
        scheduler: on the optimizer whose groups are meant; it was made before, and is stepped by this one alone.
        multipliers: pattern -> multiplier of the groups whose whole `name` it matches, a regular expression:
            {"stem": 0.1, "layer[34]": cosine(10_000), ".*norm": WeakGradients()}. The index of a schedule counts the
            updates already made. The rates for the first update are set here.
    Raises: ValueError if a pattern is no regular expression or matches no group, a group is matched by two, or groups
        have no names or share one tensor as their rate.
    """

    _STATE: ClassVar[tuple[str, ...]] = (*SignalScheduler._STATE, "_inner_rates", "_inner_state", "_highest", "_weak")

    def __init__(self, scheduler: LRScheduler, multipliers: Mapping[str, Multiplier]) -> None:
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError("LayerwiseLR: it cannot pass the loss on to ReduceLROnPlateau. Use PlateauLR.")
        self.scheduler = scheduler
        self.multipliers = dict(multipliers)
        self._matched: list[Multiplier] = []
        self._inner_rates: list[float] = []
        self._highest: list[float] = []
        self._weak: dict[str, float] = {}  # name of a group -> <log r> - log r, averaged
        self._measured: Tensor | None = None  # (groups,) log r at the coming update
        self._match(scheduler.optimizer.param_groups)
        super().__init__(scheduler.optimizer)

    @property
    def needs_observe(self) -> bool:
        """Whether the scheduler does, or gradients are measured."""
        return bool(self._measured_groups()) or (
            isinstance(self.scheduler, SignalScheduler) and self.scheduler.needs_observe
        )

    @property
    def _inner_state(self) -> dict[str, Any]:
        return self.scheduler.state_dict()

    @_inner_state.setter
    def _inner_state(self, state: dict[str, Any]) -> None:
        self.scheduler.load_state_dict(state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned, after the optimizer's."""
        self._match(self.optimizer.param_groups)
        super().load_state_dict(state_dict)
        if isinstance(self.scheduler, SignalScheduler):  # it may change its rates by that, which are not multiplied
            self._set_rates([*self._inner_rates, *self._rates(len(self._inner_rates))])
            self._inner_state = state_dict["_inner_state"]
            self._remember(self._rates())
        elif isinstance(self.scheduler, LambdaLR):
            self._remember(planned_rates(self.scheduler))
        self._set_rates(self._multiplied())

    @property
    def _reads_gradients(self) -> bool:
        inner = self.scheduler
        return bool(self._measured_groups()) or (isinstance(inner, SignalScheduler) and inner._reads_gradients)

    def _read_gradients(self) -> None:
        if isinstance(self.scheduler, SignalScheduler):
            self.scheduler._read_gradients()
        weak = self._measured_groups()
        if weak and any((self.last_epoch + 1) % rate.every == 0 for _, rate in weak):
            # after each backward pass of an update: the last is of its whole gradient
            self._measured = log_rms([self.optimizer.param_groups[index] for index, _ in weak])

    def get_lr(self) -> list[float | Tensor]:
        """Rates of the groups for the coming update."""
        if not self._inner_rates:  # torch asks in the constructor
            self._remember(self._rates())
        return list(self._multiplied())

    def _begin_anew(self) -> None:
        if isinstance(self.scheduler, SignalScheduler):
            self.scheduler._begin_anew()

    def _advance(self, loss: Tensor | float) -> None:
        groups = self.optimizer.param_groups
        self._match(groups)
        self._inner_rates += self._rates(len(self._inner_rates))  # of groups added on the way
        self._remember(self._inner_step(loss))
        if self._measured is not None:
            self._learn(self._measured.tolist())  # the only sync
            self._measured = None
        self._set_rates(self._multiplied())

    def _inner_step(self, loss: Tensor | float) -> list[float]:
        """Step the scheduler on numbers, and return the rates that it gives; a rule then waits at its looks alone."""
        groups = self.optimizer.param_groups
        multiplied = [group["lr"] for group in groups]
        for group, rate in zip(groups, self._inner_rates, strict=True):
            group["lr"] = rate
        try:
            if isinstance(self.scheduler, SignalScheduler):
                self.scheduler._go_on(loss)
                self._keep(self.scheduler.take_decisions())
            else:
                self.scheduler.step()
            return self._rates()
        finally:
            for group, rate in zip(groups, multiplied, strict=True):
                group["lr"] = rate  # the very tensor, where it is one

    def _remember(self, rates: list[float]) -> None:
        self._inner_rates = rates
        self._highest += rates[len(self._highest) :]
        self._highest = [max(pair) for pair in zip(self._highest, rates, strict=True)]

    def _multiplied(self) -> list[float]:
        groups = self.optimizer.param_groups
        return [
            rate * self._value(multiplier, index) * float(groups[index].get("lr_scale", 1.0))
            for index, (rate, multiplier) in enumerate(zip(self._inner_rates, self._matched, strict=True))
        ]

    def _value(self, multiplier: Multiplier, index: int) -> float:
        if isinstance(multiplier, WeakGradients):
            weakness = self._weak.get(self.optimizer.param_groups[index]["name"], 0.0)
            fade = self._inner_rates[index] / self._highest[index] if self._highest[index] else 0.0
            bound = math.log(multiplier.limit)
            return math.exp(min(max(multiplier.strength * weakness * fade, -bound), bound))
        return float(multiplier(self.last_epoch)) if callable(multiplier) else float(multiplier)

    def _measured_groups(self) -> list[tuple[int, WeakGradients]]:
        return [(index, rate) for index, rate in enumerate(self._matched) if isinstance(rate, WeakGradients)]

    def _learn(self, logs: list[float]) -> None:
        mean = sum(logs) / len(logs)
        if not math.isfinite(mean):  # a group without gradient, or a loss that is none: nothing to learn from
            return
        for (index, rate), log in zip(self._measured_groups(), logs, strict=True):
            if self.last_epoch % rate.every:  # measured for the mean alone: another group's turn
                continue
            name = self.optimizer.param_groups[index]["name"]
            self._weak[name] = rate.memory * self._weak.get(name, mean - log) + (1 - rate.memory) * (mean - log)

    def _match(self, groups: list[dict[str, Any]]) -> None:
        """Find the multiplier of each group; anew only where groups were added."""
        if len(self._matched) == len(groups):
            return
        names = [group.get("name") for group in groups]
        tensors = [id(group["lr"]) for group in groups if isinstance(group["lr"], Tensor)]
        if len(set(tensors)) < len(tensors):
            raise ValueError(
                "LayerwiseLR: groups share one tensor as their rate, so that they cannot have rates of their own. "
                'Give each group its own: {"params": ..., "lr": lr.clone()}.'
            )
        if None in names:
            raise ValueError(
                f"LayerwiseLR: every parameter group must have a name, got {names}. "
                'Use Adam([{"params": ..., "name": "stem"}, ...]).'
            )
        for pattern in self.multipliers:
            try:
                re.compile(pattern)
            except (re.error, OverflowError) as error:
                raise ValueError(f"LayerwiseLR: {pattern!r} is not a valid regular expression ({error}).") from error
        found = [[pattern for pattern in self.multipliers if re.fullmatch(pattern, str(name))] for name in names]
        for pattern in self.multipliers:
            if not any(pattern in patterns for patterns in found):
                raise ValueError(f"LayerwiseLR: '{pattern}' matches no group. There are: {', '.join(map(str, names))}.")
        for name, patterns in zip(names, found, strict=True):
            if len(patterns) > 1:
                raise ValueError(f"LayerwiseLR: group '{name}' is matched by '{patterns[0]}' and '{patterns[1]}'.")
        self._matched = [self.multipliers[patterns[0]] if patterns else 1.0 for patterns in found]


def planned_rates(scheduler: LambdaLR) -> list[float]:
    """Return the groups' rates for the coming update: after loading, what was saved may be that of a shorter plan."""
    pairs = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    return [float(base_lr * factor(scheduler.last_epoch)) for base_lr, factor in pairs]


def log_rms(groups: list[dict[str, Any]]) -> Tensor:
    """Logarithm of the root mean square of each group's gradient, (groups,); -inf where there is none. No sync."""
    logs = []
    for group in groups:
        gradients = [parameter.grad for parameter in group["params"] if parameter.grad is not None]
        size = sum(gradient.numel() for gradient in gradients)
        if gradients:
            logs.append(torch.stack(torch._foreach_norm(gradients, 2)).norm().log() - 0.5 * math.log(size))
    if len(logs) == len(groups):
        return torch.stack(logs)
    return torch.full((len(groups),), float("-inf"), device=logs[0].device if logs else "cpu")
