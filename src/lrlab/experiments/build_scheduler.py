"""From the words of a configuration to a scheduler: rules, functions of the step, and what is put around them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Final

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from lrlab import schedules
from lrlab.config import (
    ConfigError,
    ConstantSchedule,
    CosineSchedule,
    LayerRate,
    LinearSchedule,
    MeasuredRate,
    OneCycleSchedule,
    OptimizerConfig,
    PlannedRate,
    RefinedSchedule,
    RunConfig,
    ScheduleConfig,
    StepSchedule,
    TorchSchedule,
    WsdSchedule,
)
from lrlab.config.schedules import OWN_RATES
from lrlab.experiments.torch_schedulers import check_rates, torch_scheduler
from lrlab.schedulers import (
    ArticleLR,
    GreedyLR,
    LayerwiseLR,
    PhasesLR,
    PlateauLR,
    RuleLR,
    SlopeLR,
    SnrLR,
    StationarityLR,
    WeakGradients,
)
from lrlab.schedulers.layerwise import Multiplier
from lrlab.schedules import Schedule

RULES: Final[Mapping[str, Callable[..., RuleLR]]] = {
    "article": ArticleLR,
    "slope": SlopeLR,
    "snr": SnrLR,
    "stationarity": StationarityLR,
    "greedy": GreedyLR,
    "plateau": PlateauLR,
}


def build_scheduler(config: RunConfig, optimizer: Optimizer, *, num_steps: int) -> LRScheduler:
    """Make the scheduler of a run of `num_steps` updates.

    Raises: ConfigError if torch has no such scheduler or not with these arguments, if warm-up and cooldown do not fit
        into the run, if a rate is for a layer group that is not there, or if one is not finite or below 0.
    """
    try:
        scheduler = _build_scheduler(config, optimizer, num_steps=num_steps)
        multipliers = {name: _multiplier(rate, num_steps=num_steps) for name, rate in config.layer_rates.items()}
        scheduler = LayerwiseLR(scheduler, multipliers) if multipliers else scheduler
        check_rates(optimizer.param_groups, step=1)
        _warn_if_optimizer_lr_is_not_used(config)
        return scheduler
    except ConfigError:
        raise
    except ValueError as error:  # of a setting that only the run's length, the optimizer or the layers rule out
        raise ConfigError(str(error)) from error


def _build_scheduler(config: RunConfig, optimizer: Optimizer, *, num_steps: int) -> LRScheduler:
    schedule = config.schedule
    if isinstance(schedule, TorchSchedule):
        return torch_scheduler(schedule, optimizer, num_steps=num_steps)
    if schedule.name not in RULES:
        return LambdaLR(optimizer, build_schedule(config, num_steps=num_steps))
    rule = build_rule(schedule, optimizer)
    warmup_steps, cooldown_steps = config.phases.lengths(num_steps)
    if not warmup_steps and not cooldown_steps:
        return rule
    return PhasesLR(
        rule,
        warmup_steps=warmup_steps,
        cooldown_steps=cooldown_steps,
        total_steps=num_steps,
        shape=config.phases.cooldown_shape,
        end=config.phases.end,
    )


def build_rule(schedule: ScheduleConfig, optimizer: Optimizer) -> RuleLR:
    """Make the rule of a schedule that is one of `RULES`.

    Raises: ValueError for settings that the optimizer's rates rule out.
    """
    return RULES[schedule.name](optimizer, **schedule.model_dump(exclude={"name"}))


def warn_if_the_rate_never_moves(config: RunConfig, scheduler: LRScheduler, *, num_steps: int) -> None:
    """Warn of a schedule whose first decay or decision comes after the run's last update."""
    rule = _rule_within(scheduler)
    num_heard = num_steps - sum(config.phases.lengths(num_steps))
    schedule = config.schedule
    if isinstance(schedule, StepSchedule) and schedule.step_size >= num_heard:
        first = f"schedule 'step' first decays after {schedule.step_size} updates, but sees {num_heard} in this run"
        warnings.warn(f"{first}: it will not change the rate. Lower schedule.step_size, or train longer.", stacklevel=3)
    if rule is not None and rule.first_decision > num_heard:
        keys = " or ".join(f"schedule.{name}" for name in rule.timed_by)
        warnings.warn(
            f"schedule '{schedule.name}' decides after {rule.first_decision} updates at the earliest, but sees only "
            f"{num_heard} in this run: it will not change the rate. Lower {keys}, or train longer.",
            stacklevel=3,
        )


def _warn_if_optimizer_lr_is_not_used(config: RunConfig) -> None:
    """Warn of a rate that was asked for, which is any but the default, beside a schedule with rates of its own."""
    lr, name = config.optimizer.lr, config.schedule.name
    if name in OWN_RATES and lr != OptimizerConfig().lr:
        warnings.warn(
            f"optimizer.lr = {lr:g} has no effect: schedule '{name}' has rates of its own. Change schedule.max_lr, or "
            "take a schedule that multiplies optimizer.lr, as one_cycle does.",
            stacklevel=4,
        )


def _rule_within(scheduler: LRScheduler) -> RuleLR | None:
    """The rule within phases and rates per layer; None where the rate is a function of the step."""
    if isinstance(scheduler, LayerwiseLR):
        return _rule_within(scheduler.scheduler)
    if isinstance(scheduler, PhasesLR):
        return _rule_within(scheduler.rule)
    return scheduler if isinstance(scheduler, RuleLR) else None


def build_schedule(config: RunConfig, *, num_steps: int) -> Schedule:
    """Make the open-loop schedule of a run of `num_steps` updates, with its warm-up and cooldown."""
    warmup_steps, cooldown_steps = config.phases.lengths(num_steps)
    body = _body(config, num_steps=num_steps - warmup_steps - cooldown_steps)
    if not warmup_steps and not cooldown_steps:
        return body
    return schedules.phases(
        body,
        total_steps=num_steps,
        warmup_steps=warmup_steps,
        cooldown_steps=cooldown_steps,
        shape=config.phases.cooldown_shape,
        end=config.phases.end,
    )


def _body(config: RunConfig, *, num_steps: int) -> Schedule:
    schedule, base_lr = config.schedule, config.optimizer.lr
    match schedule:
        case ConstantSchedule():
            return schedules.constant()
        case StepSchedule():
            return schedules.step(schedule.step_size, factor=schedule.factor)
        case CosineSchedule():
            return schedules.cosine(num_steps, end=schedule.min_lr / base_lr)
        case LinearSchedule():
            return schedules.linear(num_steps, end=schedule.min_lr / base_lr)
        case WsdSchedule():
            warmup_steps = round(schedule.warmup_fraction * num_steps)
            return schedules.wsd(
                num_steps,
                warmup_steps=warmup_steps,
                cooldown_steps=min(round(schedule.cooldown_fraction * num_steps), num_steps - warmup_steps),
                shape=schedule.cooldown_shape,
                end=schedule.min_lr / base_lr,
            )
        case OneCycleSchedule():
            return schedules.one_cycle(
                num_steps,
                warmup_fraction=schedule.warmup_fraction,
                div_factor=schedule.div_factor,
                final_div_factor=schedule.final_div_factor,
            )
        case RefinedSchedule():
            return schedules.table(schedule.multipliers, total_steps=num_steps)
        case _:
            raise ConfigError(f"schedule '{schedule.name}' decides during training: it is not a function of the step.")


def _multiplier(rate: LayerRate, *, num_steps: int) -> Multiplier:
    if isinstance(rate, PlannedRate):
        return schedules.COOLDOWNS[rate.shape](num_steps, start=rate.start, end=rate.end)
    if isinstance(rate, MeasuredRate):
        return WeakGradients(rate.strength, rate.every, rate.memory, rate.limit)
    return float(rate)
