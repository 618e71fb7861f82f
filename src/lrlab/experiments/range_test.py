"""The range test of a configuration: a network of its own for each seed, trained while the rate rises."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lrlab.config import (
    AveragingConfig,
    ConfigError,
    LayerRate,
    MeasuredRate,
    PhasesConfig,
    PlannedRate,
    RunConfig,
    TorchSchedule,
)
from lrlab.data import ImageData
from lrlab.experiments.build import build_data
from lrlab.experiments.run import Experiment
from lrlab.training import DivergedError, RateRange, Sweep, SweepRecorder, Update, train

NUM_SEEDS = 2**32


@dataclass(frozen=True)
class RangeTestPlan:
    """What is swept: nothing is loaded or computed yet."""

    config: RunConfig
    """Of the sweep with the first seed; its schedule is the sweep."""
    rates: RateRange
    """Of its updates."""
    seeds: range
    """A sweep for each."""

    def title(self) -> str:
        """Say what is trained."""
        config = self.config
        return f"{config.data.name}: {config.model.name} of width {config.model.width}, {config.optimizer.name}"

    def summary(self) -> str:
        """Say in a line what will be done."""
        rates, num_seeds = self.rates, len(self.seeds)
        return (
            f"{self.title()}; the rate from {rates.start:g} to {rates.end:g} in {rates.num_steps:,} updates of "
            f"{self.config.batch_size} images, {num_seeds} {'seed' if num_seeds == 1 else 'seeds'}"
        )


def plan_range_test(config: RunConfig, *, start: float, end: float, num_steps: int, num_seeds: int) -> RangeTestPlan:
    """Say what is to be swept, from what is to be trained.

    The configuration's rate, schedule, phases and length play no part. Rates of layers do: numbers, and of planned
    ones their start.

    Args:
        config: what to train; its seed is the first one.
        start: rate of the first update, > 0.
        end: rate of the last one, > start.
        num_steps: updates of a sweep, >= 20.
        num_seeds: sweeps, >= 1; their seeds count up.
    Raises: ConfigError.
    """
    try:
        rates = RateRange(start, end, num_steps)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not 1 <= num_seeds <= NUM_SEEDS - config.seed:
        raise ConfigError(f"A range test needs at least one seed, and none above {NUM_SEEDS - 1}, got {num_seeds} "
                          f"starting at {config.seed}.")  # fmt: skip
    over = {
        "optimizer": config.optimizer.model_copy(update={"lr": start}),
        "schedule": TorchSchedule.model_validate({"name": "torch:ExponentialLR", "gamma": rates.factor}),
        "phases": PhasesConfig(),
        "layer_rates": {name: _fixed(name, rate) for name, rate in config.layer_rates.items()},
        "averaging": AveragingConfig(),
        "stop_below_lr": None,
        "epochs": None,
        "steps": num_steps,
    }
    return RangeTestPlan(config.model_copy(update=over), rates, range(config.seed, config.seed + num_seeds))


def run_range_test(plan: RangeTestPlan) -> Iterator[Update | Sweep]:
    """Sweep the rate once for each seed; yield every update, and after those of a sweep what came of it.

    A seed decides the first weights, the order of the images and their augmentation. Nothing is written.

    Raises: ConfigError, DataError, EngineError.
    """
    data = build_data(plan.config.data)
    for seed in plan.seeds:
        yield from _sweep(plan, seed, data)


def _sweep(plan: RangeTestPlan, seed: int, data: ImageData) -> Iterator[Update | Sweep]:
    experiment = Experiment(plan.config.model_copy(update={"seed": seed}), data=data)
    for probe in experiment.probes:
        probe.detach()  # nothing is recorded
    recorder = SweepRecorder(plan.rates, seed=seed)
    updates = train(
        experiment.network,
        experiment.batches.batch,
        experiment.optimizer,
        experiment.scheduler,
        num_steps=experiment.num_steps,
        label_smoothing=experiment.config.label_smoothing,
    )
    try:
        for update in updates:
            yield update
            if recorder.add(update.loss):
                break
    except DivergedError:  # before the update that would have been the next
        recorder.add(math.nan)
    yield recorder.sweep()


def _fixed(name: str, rate: LayerRate) -> float:
    if isinstance(rate, MeasuredRate):
        raise ConfigError(
            f"layer_rates.{name} is measured during training, but a sweep needs rates in fixed proportions. "
            f"Give it a number, as in --set layer_rates.{name}=1.0."
        )
    return rate.start if isinstance(rate, PlannedRate) else rate
