"""A rule over losses that were recorded: when it would have moved the rate, and why."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lrlab.config import ConfigError, RunConfig
from lrlab.experiments.build import build_optimizer
from lrlab.experiments.build_scheduler import RULES, build_rule
from lrlab.schedulers import Decision, RuleLR
from lrlab.schedulers.simulate import Noise, RuleCalibration, calibrate

FROM_THE_LOSS: Final = ("article", "slope", "greedy", "plateau")
"""Rules that decide by the loss alone."""


def replay_rule(config: RunConfig, losses: npt.NDArray[np.float64]) -> list[Decision]:
    """Return what a schedule would have decided, had these been the losses of a run's updates, oldest first.

    The losses stay as they were recorded: after the first decay they are not those that would have come. A rule hears
    nothing of a warm-up and a cooldown. Steps count the losses, from 1.

    Args:
        config: its schedule, its phases and its rate.
        losses: oldest first, (N,).
    Raises: ConfigError if the schedule does not decide from the loss alone, or there are too few losses for it to.
    """
    warmup_steps, cooldown_steps = config.phases.lengths(len(losses))
    rule = _rule(config)
    if warmup_steps + cooldown_steps >= len(losses) > 0:
        raise ConfigError(
            f"phases: {warmup_steps} updates of warm-up and {cooldown_steps} of cooldown leave the rule none of the "
            f"{len(losses)} losses. Shorten them."
        )
    heard = torch.from_numpy(np.ascontiguousarray(losses[warmup_steps : len(losses) - cooldown_steps]))
    there = f"there are {len(heard):,}" + " without warm-up and cooldown" * (warmup_steps + cooldown_steps > 0)
    if len(heard) < rule.check_every:
        raise ConfigError(
            f"schedule '{config.schedule.name}' looks at {rule.check_every:,} losses at a time, and {there}. Lower "
            "schedule.check_every, or replay a longer run."
        )
    if len(heard) < rule.first_decision:
        keys = " or ".join(f"schedule.{name}" for name in dict.fromkeys((*rule.timed_by, "check_every")))
        warnings.warn(
            f"schedule '{config.schedule.name}' decides after {rule.first_decision:,} losses at the earliest, and "
            f"{there}: it cannot change the rate. Lower {keys}, or replay a longer run.",
            stacklevel=2,
        )
    return [{**decision, "step": decision["step"] + warmup_steps} for decision in rule.replay(heard)]


def calibrate_rule(config: RunConfig, *, std: float, correlation: float, num_traces: int) -> RuleCalibration:
    """Play a schedule over simulated losses: see `lrlab.schedulers.simulate.calibrate`.

    Raises: ConfigError if the schedule does not decide from the loss alone, or there can be no such losses.
    """
    _rule(config)  # says what is wrong with it
    try:
        noise = Noise(std, correlation)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if num_traces < 1:
        raise ConfigError(f"The number of simulated losses must be >= 1, got {num_traces}.")
    make = partial(build_rule, config.schedule)
    return calibrate(make, lr=config.optimizer.lr, noise=noise, num_traces=num_traces, seed=config.seed)


def _rule(config: RunConfig) -> RuleLR:
    schedule = config.schedule
    if schedule.name not in RULES:
        raise ConfigError(
            f"schedule '{schedule.name}' does not use losses, so it cannot be replayed: lrlab preview shows its rate. "
            f"Those that can be replayed: {', '.join(FROM_THE_LOSS)}."
        )
    optimizer = build_optimizer(config.optimizer, {"all": [nn.Parameter(torch.zeros(1))]})
    try:
        rule = build_rule(schedule, optimizer)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not rule.needs_observe:
        raise ConfigError(
            f"schedule '{schedule.name}' reads the optimizer, not the loss: it cannot be replayed. Those that can: "
            f"{', '.join(FROM_THE_LOSS)}."
        )
    return rule
