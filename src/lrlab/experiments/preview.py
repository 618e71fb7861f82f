"""The rate of each update of a schedule that needs no training to know it."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from lrlab.config import ConfigError, MeasuredRate, ModelConfig, RunConfig
from lrlab.experiments.build import build_model, build_optimizer
from lrlab.experiments.build_scheduler import RULES, build_scheduler
from lrlab.experiments.torch_schedulers import check_rates
from lrlab.models import layer_groups

Rates = list[float]
"""Rate of each update of a run."""

_MOST_STEPS: Final = 10_000_000


def preview_rates(config: RunConfig, *, num_steps: int) -> dict[str, Rates]:
    """Return the rates that each layer group really gets in a run of `num_steps`, by stepping the scheduler through it.

    Raises: ConfigError for a schedule, or a rate of a layer, that listens to the training, for a rate that is none, and
        for more updates than memory may hold the rates of.
    """
    if num_steps > _MOST_STEPS:
        raise ConfigError(
            f"steps: a preview is limited to {_MOST_STEPS:,} updates, got {num_steps:,}. A schedule has the same shape "
            "over fewer."
        )
    if config.schedule.name in RULES:
        raise ConfigError(
            f"schedule '{config.schedule.name}' decides during the run, so its rate is not known in advance. "
            "Try it on a small run: lrlab train --data digits."
        )
    if measured := [name for name, rate in config.layer_rates.items() if isinstance(rate, MeasuredRate)]:
        raise ConfigError(f"layer_rates.{measured[0]} is measured in the run, so its rate is not known in advance.")
    model = build_model(ModelConfig(name=config.model.name, width=1), num_classes=2, in_channels=1, seed=0)
    groups = {name: [nn.Parameter(torch.zeros(1))] for name in layer_groups(model)}
    optimizer = build_optimizer(config.optimizer, groups)
    scheduler = build_scheduler(config, optimizer, num_steps=num_steps)
    rates: dict[str, Rates] = {name: [] for name in groups}
    for step in range(1, num_steps + 1):
        check_rates(optimizer.param_groups, step=step)
        for group in optimizer.param_groups:
            rates[group["name"]].append(float(group["lr"]))
        optimizer.step()  # without a gradient it changes nothing; torch warns of schedulers stepped alone
        scheduler.step()
    return rates
