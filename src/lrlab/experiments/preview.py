"""The rate of each update of a schedule that needs no training to know it."""

from __future__ import annotations

import torch
from torch import nn

from lrlab.config import ConfigError, RunConfig
from lrlab.experiments.build import build_optimizer, build_scheduler
from lrlab.schedulers import SignalScheduler


def preview_rates(config: RunConfig, *, num_steps: int) -> list[float]:
    """Return the rate of each update of a run of `num_steps`, by stepping the scheduler through it.

    Raises: ConfigError for a schedule that listens to the training.
    """
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer(config.optimizer, {"all": [parameter]})
    scheduler = build_scheduler(config, optimizer, num_steps=num_steps)
    if isinstance(scheduler, SignalScheduler):
        raise ConfigError(
            f"schedule '{config.schedule.name}' decides from the loss of a run, so there is no rate to know before it. "
            "Run it on something small: lrlab train --data digits."
        )
    rates = []
    for _ in range(num_steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()  # without a gradient it changes nothing; torch warns of schedulers stepped alone
        scheduler.step()
    return rates
