"""From names to objects: the one place where the words of a configuration become data, models and optimizers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lrlab.config import (
    AveragingConfig,
    ConfigError,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    TelemetryConfig,
)
from lrlab.data import (
    CIFAR10,
    CIFAR100,
    Augmentation,
    Batch,
    Batches,
    DataError,
    ImageData,
    load_cifar,
    load_digits_data,
    load_folder,
    set_aside,
)
from lrlab.gradients import group_changes, group_products, vector_changes, vector_products
from lrlab.models import LayerGroups, resnet18, resnet34
from lrlab.probes import (
    AdamSnrProbe,
    DeadReluProbe,
    GradientCosineProbe,
    NoiseScaleProbe,
    Probe,
    UpdateRatioProbe,
    WeightNormProbe,
)
from lrlab.training import Network, Ranks

MODELS = {"resnet18": resnet18, "resnet34": resnet34}
MOST_NOISE_PARTS = 8
"""Of a batch: enough for the spread of their gradients, few enough to be computed as fast as the whole batch."""
SIDE_OF_ONE_PIXEL = 8
"""Images up to this side have one pixel left in layer4, after three halvings."""
ARCHIVES = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def build_data(config: DataConfig) -> ImageData:
    """Load the images; CIFAR is downloaded where no directory is given and the cache has none.

    Raises: DataError if they cannot be used; ConfigError if they do not fit the configuration.
    """
    try:
        data = _load(config)
        return data if config.validation_fraction is None else set_aside(data, config.validation_fraction)
    except DataError:
        raise
    except ValueError as error:  # a setting, not the files
        raise ConfigError(str(error)) from error


def _load(config: DataConfig) -> ImageData:
    if config.name in ARCHIVES:
        return load_cifar(ARCHIVES[config.name], config.dir)
    if config.name == "digits":
        return load_digits_data() if config.test_fraction is None else load_digits_data(config.test_fraction)
    assert config.dir is not None, "DataConfig asks for it"
    return load_folder(config.dir, config.test_fraction)


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


def build_batches(config: RunConfig, data: ImageData, ranks: Ranks) -> Batches:
    """Make the batches of a run.

    Raises: ConfigError for a batch that the images or the ranks do not allow.
    """
    side = max(data.train.images.shape[2:])
    size, remainder = divmod(config.batch_size, ranks.size)
    if remainder:
        raise ConfigError(
            f"batch_size must be a multiple of the number of ranks, {ranks.size}, got {config.batch_size}. "
            f"Pass --batch-size {(size + 1) * ranks.size}, or start another number of ranks."
        )
    num_sharing = ranks.size if config.model.batchnorm == "per_rank" else 1
    if config.batch_size < 2 * num_sharing and side <= SIDE_OF_ONE_PIXEL:
        on_each = f" on each of {ranks.size} ranks" if num_sharing > 1 else ""
        raise ConfigError(
            f"batch_size must be at least {2 * num_sharing}, got {config.batch_size}: layer4 reduces images of {side} "
            f"pixels to one, and batch normalisation needs two values{on_each}. Pass --batch-size {2 * num_sharing}."
        )
    augmentation = Augmentation(flip=config.data.flip, crop_padding=config.data.crop_padding, cutout=config.data.cutout)
    try:
        return Batches(data, batch_size=config.batch_size, seed=config.seed, augmentation=augmentation)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def build_layer_probes(config: TelemetryConfig, network: Network, optimizer: Optimizer) -> list[Probe]:
    """Make the probes of weights, updates, gradients in a row, ReLUs and moments; none where they are not asked for."""
    every, groups = config.layers_every, network.groups
    if every is None:
        return []
    changes = network.compiled(vector_changes) or group_changes
    products = network.compiled(vector_products) or group_products
    probes: list[Probe] = [
        WeightNormProbe(groups, every=every),
        UpdateRatioProbe(groups, optimizer, every=every, changes=changes),
        GradientCosineProbe(groups, every=every, products=products),
        DeadReluProbe(dict(network.model.named_children()), every=every, total=network.total),
    ]
    has_moments = all("betas" in group for group in optimizer.param_groups)
    return [*probes, AdamSnrProbe(groups, optimizer, every=every)] if has_moments else probes


def build_noise_probe(
    config: RunConfig, model: nn.Module, groups: LayerGroups, batches: Callable[[int], Batch]
) -> list[NoiseScaleProbe]:
    """Make the probe of the gradient's noise, where it is asked for.

    Args:
        config: of the run.
        model: in training mode when the probe measures.
        groups: of the model's own parameters.
        batches: update -> what it learns from.
    Raises: ConfigError for a batch that has no two parts of two examples.
    """
    every = config.telemetry.noise_every
    if every is None:
        return []
    num_parts = min(MOST_NOISE_PARTS, config.batch_size // 2)
    if num_parts < 2:
        raise ConfigError(
            "telemetry.noise_every: the noise scale compares parts of a batch, of two images or more, so batch_size "
            f"must be at least 4, got {config.batch_size}. Raise it, or leave the key out."
        )

    def batch(step: int) -> tuple[Tensor, Tensor]:
        found = batches(step)
        return found.images.contiguous(memory_format=torch.channels_last), found.labels

    criterion = partial(F.cross_entropy, label_smoothing=config.label_smoothing)
    return [NoiseScaleProbe(groups, model, batch, criterion=criterion, num_parts=num_parts, every=every)]


def build_average(config: AveragingConfig, model: nn.Module) -> AveragedModel | None:
    """Make the average of a model's weights, which is told of the updates; None where there is none.

    It is torch's: a copy of the model, hooks included, made now, and of the weights at the first averaging. Its
    statistics of batch normalisation are the model's, not its own: see `lrlab.training.estimate_statistics`.
    """
    if config.decay is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.decay))


@torch.no_grad()
def update_average(average: AveragedModel, model: nn.Module) -> None:
    """Take a model's weights into an average that `build_average` made.

    That is `average.update_parameters`, which from the second time on brings its count to the device, and so waits for
    all that the device has to do.
    """
    if not average.n_averaged:  # on the processor
        average.update_parameters(model)
        return
    assert average.multi_avg_fn is not None, "build_average gives it"
    average.multi_avg_fn(list(average.module.parameters()), list(model.parameters()), average.n_averaged)
    if buffers := list(average.module.buffers()):
        torch._foreach_copy_(buffers, list(model.buffers()))
    average.n_averaged += 1
