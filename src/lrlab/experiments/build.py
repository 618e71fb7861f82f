"""From names to objects: the one place where the words of a configuration become data, models and optimizers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lrlab import schedules
from lrlab.config import (
    ArticleSchedule,
    AveragingConfig,
    ConfigError,
    ConstantSchedule,
    CosineSchedule,
    DataConfig,
    LinearSchedule,
    ModelConfig,
    OneCycleSchedule,
    OptimizerConfig,
    RunConfig,
    StepSchedule,
    TorchSchedule,
    WsdSchedule,
)
from lrlab.config.parts import unknown
from lrlab.data import CIFAR10, CIFAR100, DataError, ImageData, load_cifar, load_digits_data, load_folder
from lrlab.models import LayerGroups, resnet18, resnet34
from lrlab.schedulers import ArticleLR, PlateauLR, SignalScheduler
from lrlab.schedules import Schedule

MODELS = {"resnet18": resnet18, "resnet34": resnet34}
ARCHIVES = {"cifar10": CIFAR10, "cifar100": CIFAR100}

_NOT_FROM_A_FILE = ("LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler")
"""torch's schedulers whose arguments are functions or other schedulers, which no configuration can hold."""


def build_data(config: DataConfig) -> ImageData:
    """Load the images; CIFAR is downloaded where no directory is given and the cache has none.

    Raises: DataError if they cannot be used; ConfigError if they do not fit the configuration.
    """
    try:
        if config.name in ARCHIVES:
            return load_cifar(ARCHIVES[config.name], config.dir)
        if config.name == "digits":
            return load_digits_data() if config.test_fraction is None else load_digits_data(config.test_fraction)
        assert config.dir is not None, "DataConfig asks for it"
        return load_folder(config.dir, config.test_fraction)
    except DataError:
        raise
    except ValueError as error:  # a setting, not the files
        raise ConfigError(str(error)) from error


def build_model(config: ModelConfig, *, num_classes: int, in_channels: int, seed: int) -> nn.Module:
    """Make a network whose initial weights are a function of the seed; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the processor's alone: weights are made there
        return MODELS[config.name](num_classes=num_classes, in_channels=in_channels, width=config.width)


def build_optimizer(config: OptimizerConfig, groups: LayerGroups) -> Optimizer:
    """Make an optimizer with one parameter group for each layer group, under its name."""
    named: list[dict[str, Any]] = [{"params": parameters, "name": name} for name, parameters in groups.items()]
    if config.name == "sgd":
        momentum = 0.9 if config.momentum is None else config.momentum
        decay, nesterov = config.weight_decay, config.nesterov
        return SGD(named, lr=config.lr, momentum=momentum, weight_decay=decay, nesterov=nesterov, fused=True)
    kind = Adam if config.name == "adam" else AdamW
    return kind(named, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def build_average(config: AveragingConfig, model: nn.Module) -> AveragedModel | None:
    """Make the average of a model's weights, which is told of the updates; None where there is none.

    It is torch's: a copy of the model, hooks included, made now, and of the weights at the first averaging. Its
    statistics of batch normalisation are the model's, not its own: see `lrlab.training.estimate_statistics`.
    """
    if config.decay is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.decay))


def build_scheduler(config: RunConfig, optimizer: Optimizer, *, num_steps: int) -> LRScheduler:
    """Make the scheduler of a run of `num_steps` updates.

    Raises: ConfigError if torch has no such scheduler, or not with these arguments.
    """
    schedule = config.schedule
    if isinstance(schedule, ArticleSchedule):
        return ArticleLR(
            optimizer,
            multiplier=schedule.multiplier,
            check_every=schedule.check_every,
            factor=schedule.factor,
            min_lr=schedule.min_lr,
            reset_optimizer=schedule.reset_optimizer,
        )
    if isinstance(schedule, TorchSchedule):
        return _torch_scheduler(schedule, optimizer, num_steps=num_steps)
    return LambdaLR(optimizer, build_schedule(config, num_steps=num_steps))


def build_schedule(config: RunConfig, *, num_steps: int) -> Schedule:
    """Make the open-loop schedule of a run of `num_steps` updates."""
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
        case _:
            raise ConfigError(f"schedule '{schedule.name}' listens to the training and is no function of the step.")


def _torch_scheduler(config: TorchSchedule, optimizer: Optimizer, *, num_steps: int) -> LRScheduler:
    """Make one of torch's own schedulers; ReduceLROnPlateau, which needs a loss, is fed by PlateauLR.

    torch looks at few of its arguments, and some fail only at a certain update: the whole run is played before.
    """
    kind, allowed = _torch_class(config.name.removeprefix("torch:"))
    options = config.model_extra or {}
    for key in options:
        if key not in allowed:
            raise ConfigError(unknown("key", f"schedule.{key}", [f"schedule.{key}" for key in allowed]))
    rehearsed = {**options, "check_every": 1} if kind is PlateauLR else options  # so that it decides in a short run too
    try:
        _play(kind(_twin(optimizer), **rehearsed), num_steps)
        return kind(optimizer, **options)
    except Exception as error:  # torch raises what its arithmetic raises
        raise ConfigError(
            f"{config.name}: {type(error).__name__}: {str(error).rstrip('.')}. "
            f"Its keys, in updates: {', '.join(allowed)}."
        ) from error


def _torch_class(name: str) -> tuple[Callable[..., LRScheduler], list[str]]:
    """Return torch's scheduler of a name, and the arguments that it takes."""
    known = sorted(
        name
        for name, kind in inspect.getmembers(lr_scheduler, inspect.isclass)
        if issubclass(kind, LRScheduler) and kind is not LRScheduler and not name.startswith("_")
    )
    if name in _NOT_FROM_A_FILE:
        raise ConfigError(f"torch:{name} takes functions or schedulers, which a configuration cannot hold.")
    if name not in known:
        usable = [f"torch:{name}" for name in known if name not in _NOT_FROM_A_FILE]
        raise ConfigError(unknown("scheduler", f"torch:{name}", usable))
    kind = getattr(lr_scheduler, name)
    allowed = [key for key in inspect.signature(kind).parameters if key not in ("optimizer", "last_epoch")]
    return (PlateauLR, [*allowed, "check_every"]) if kind is ReduceLROnPlateau else (kind, allowed)


def _twin(optimizer: Optimizer) -> Optimizer:
    """Return an optimizer of the same kind, settings and groups over numbers that nobody needs."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))]} for _ in optimizer.param_groups]
    return type(optimizer)(groups, **optimizer.defaults)


def _play(scheduler: LRScheduler, num_steps: int) -> None:
    for _ in range(num_steps):
        scheduler.optimizer.step()
        if isinstance(scheduler, SignalScheduler):
            scheduler.step(1.0)
        else:
            scheduler.step()
