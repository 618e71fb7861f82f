"""torch's own schedulers, made from the keys of a configuration and played through before they are used."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from lrlab.config import ConfigError, TorchSchedule
from lrlab.config.parts import unknown

_NOT_FROM_A_FILE = ("LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler")
"""torch's schedulers whose arguments are functions or other schedulers, which no configuration can hold."""

_ROUNDING = 1e-12
"""By which torch's arithmetic may miss a rate of 0."""


def torch_scheduler(config: TorchSchedule, optimizer: Optimizer, *, num_steps: int) -> LRScheduler:
    """Make one of torch's own schedulers.

    torch looks at few of its arguments, and some fail only at a certain update: the whole run is played before.

    Raises: ConfigError if torch has no such scheduler, not with these arguments, or if it comes to a rate that is none.
    """
    kind, allowed = _torch_class(config.name.removeprefix("torch:"))
    options = config.model_extra or {}
    for key in options:
        if key not in allowed:
            raise ConfigError(unknown("key", f"schedule.{key}", [f"schedule.{key}" for key in allowed]))
    try:
        _play(kind(_twin(optimizer), **options), num_steps)
        return kind(optimizer, **options)
    except ConfigError:
        raise
    except Exception as error:  # torch raises what its arithmetic raises
        raise ConfigError(
            f"{config.name}: {type(error).__name__}: {str(error).rstrip('.')}. "
            f"Its keys: {', '.join(allowed)}; counts are of updates, not epochs."
        ) from error


def _torch_class(name: str) -> tuple[Callable[..., LRScheduler], list[str]]:
    """Return torch's scheduler of a name, and the arguments that it takes."""
    known = sorted(
        name
        for name, kind in inspect.getmembers(lr_scheduler, inspect.isclass)
        if issubclass(kind, LRScheduler) and kind is not LRScheduler and not name.startswith("_")
    )
    if name == "ReduceLROnPlateau":
        raise ConfigError(
            "torch:ReduceLROnPlateau needs the loss, which only rules are given. Use schedule.name = 'plateau'."
        )
    if name in _NOT_FROM_A_FILE:
        raise ConfigError(f"torch:{name} takes functions or schedulers, which a configuration cannot hold.")
    if name not in known:
        usable = [f"torch:{name}" for name in known if name not in (*_NOT_FROM_A_FILE, "ReduceLROnPlateau")]
        raise ConfigError(unknown("scheduler", f"torch:{name}", usable))
    kind = getattr(lr_scheduler, name)
    allowed = [key for key in inspect.signature(kind).parameters if key not in ("optimizer", "last_epoch")]
    return kind, allowed


def _twin(optimizer: Optimizer) -> Optimizer:
    """Return an optimizer of the same kind, settings and groups over numbers that nobody needs."""
    groups: list[dict[str, Any]] = [
        {"params": [nn.Parameter(torch.zeros(1))], "name": group.get("name", index)}
        for index, group in enumerate(optimizer.param_groups)
    ]
    taken = inspect.signature(type(optimizer)).parameters  # AdamW keeps a default that it does not take
    return type(optimizer)(groups, **{key: value for key, value in optimizer.defaults.items() if key in taken})


def _play(scheduler: LRScheduler, num_steps: int) -> None:
    for step in range(1, num_steps + 1):
        check_rates(scheduler.optimizer.param_groups, step=step)
        scheduler.optimizer.step()
        scheduler.step()


def check_rates(groups: list[dict[str, Any]], *, step: int) -> None:
    """See that each parameter group's rate at an update is one.

    Raises: ConfigError for a rate that is not finite, or below 0 by more than rounding: it would climb the loss.
    """
    for index, group in enumerate(groups):
        if not -_ROUNDING <= group["lr"] < math.inf:
            raise ConfigError(
                f"the rate of '{group.get('name', index)}' at update {step} would be {group['lr']:g}; it must be "
                "finite and not below 0. Change optimizer.lr, or the keys of schedule or layer_rates."
            )
