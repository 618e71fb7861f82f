"""One run, from its configuration to its directory: builds, trains, evaluates, writes, and yields what happens."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from lrlab.config import ConfigError, RunConfig
from lrlab.data import Augmentation, Batches, ImageData, evaluation_batches
from lrlab.experiments.build import build_data, build_model, build_optimizer, build_scheduler
from lrlab.models import layer_groups
from lrlab.probes import GradientProbe, OutputGradientProbe, Probe
from lrlab.report import confusion_png
from lrlab.runs import RunWriter, Status, StorageError
from lrlab.schedulers import Decision, SignalScheduler
from lrlab.training import (
    DivergedError,
    Engine,
    Evaluation,
    Recorder,
    Row,
    Update,
    choose_engine,
    divergence,
    evaluate,
    step_of,
    train,
)
from lrlab.training.checkpoint import model_bytes


@dataclass(frozen=True)
class Evaluated:
    """The test set was evaluated."""

    step: int
    epoch: int
    evaluation: Evaluation
    classes: tuple[str, ...]


SIDE_OF_ONE_PIXEL = 8
"""Images up to this side have one pixel left in layer4, after three halvings."""

Event = Update | Evaluated
"""What a run yields."""


class Experiment:
    """Everything of one run that is made before its first update, so that what is wrong shows before any work."""

    def __init__(self, config: RunConfig, *, data: ImageData | None = None) -> None:
        """Build all of it.

        Args:
            config: what to run.
            data: the data set that `config.data` names, where it is loaded already.
        Raises: ConfigError, DataError, EngineError.
        """
        self.config = config
        engine_config = config.engine
        self.engine: Engine = choose_engine(
            device=config.device, precision=engine_config.precision, threads=engine_config.threads
        )
        self.data = (build_data(config.data) if data is None else data).to(self.engine.device)
        self.batches = _build_batches(config, self.data)
        self.num_steps = config.steps or (config.epochs or 0) * self.batches.steps_per_epoch
        model = build_model(
            config.model, num_classes=len(self.data.classes), in_channels=self.data.num_channels, seed=config.seed
        )
        self.model: nn.Module = self.engine.place(model)
        groups = layer_groups(self.model)
        self.group_names = list(groups)
        self.optimizer = build_optimizer(config.optimizer, groups)
        self.scheduler: LRScheduler = build_scheduler(config, self.optimizer, num_steps=self.num_steps)
        self.probes: list[Probe] = [
            GradientProbe(groups, every=config.telemetry.every),
            OutputGradientProbe(dict(self.model.named_children()), every=config.telemetry.every),
        ]
        self.status: Status | None = None
        """How the run stands in its directory; None until there is one."""
        self._warn_of_a_rule_that_never_looks()

    def summary(self) -> str:
        """Say in a line what will be done."""
        data, config, engine = self.data, self.config, self.engine
        return (
            f"{data.name}: {len(data.train):,} training and {len(data.test):,} test images in {len(data.classes)} "
            f"classes; {config.model.name} of width {config.model.width}, schedule {config.schedule.name}, "
            f"{self.num_steps:,} updates of {config.batch_size} images on {engine.device} in {engine.precision}"
        )

    def run(self, directory: Path, *, again: bool = False) -> Generator[Event, None, None]:
        """Make the run in a new directory, and yield every update and evaluation once it is made.

        Whoever iterates may stop early, by `close()`; the run is then `preempted`, with all its rows written.

        Args:
            directory: new or empty.
            again: whether a run in it that was cut short is deleted first.
        Raises: DivergedError once a loss is not finite; RunError, LockedError and StorageError of the directory;
            RuntimeError if this experiment was run before, since its weights are no longer the initial ones.
        """
        if self.status is not None:
            raise RuntimeError("This experiment was run before: make a new Experiment for another run.")
        with RunWriter(directory, self.config, again=again) as writer:
            self.status = "running"
            writer.describe(data=self._describe_data(), engine=self._describe_engine())
            session = _Session(self, writer)
            try:
                yield from session.updates()
            except BaseException as error:  # whatever it was, what was recorded so far is kept
                with contextlib.suppress(DivergedError, StorageError):
                    session.flush()
                self.status = _status_after(error)
                raise
            else:
                self.status = "complete"
            finally:
                for probe in self.probes:
                    probe.detach()
                writer.finish(self.status, session.result())

    def evaluate(self) -> Evaluation:
        """Evaluate the model, as it is, on the whole test set."""
        batches = evaluation_batches(
            self.data.test, mean=self.data.mean, std=self.data.std, batch_size=self.config.evaluate.batch_size
        )
        return evaluate(self.model, batches, engine=self.engine, num_classes=len(self.data.classes))

    def _describe_data(self) -> dict[str, Any]:
        data = self.data
        return {
            "name": data.name,
            "classes": list(data.classes),
            "num_train": len(data.train),
            "num_test": len(data.test),
            "image_shape": list(data.train.images.shape[1:]),
            "mean": list(data.mean),
            "std": list(data.std),
        }

    def _describe_engine(self) -> dict[str, Any]:
        return {
            "device": self.engine.device_name,
            "precision": self.engine.precision,
            "threads": torch.get_num_threads(),
            "num_parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "num_steps": self.num_steps,
        }

    def _warn_of_a_rule_that_never_looks(self) -> None:
        if isinstance(self.scheduler, SignalScheduler) and self.scheduler.check_every > self.num_steps:
            warnings.warn(
                f"schedule '{self.config.schedule.name}' looks every {self.scheduler.check_every} updates and this run "
                f"has {self.num_steps}: the rate will stay as it is. Lower schedule.check_every, or train longer.",
                stacklevel=3,
            )


class _Session:
    """The part of a run that changes while it goes: where it stands, and what is not written yet."""

    def __init__(self, experiment: Experiment, writer: RunWriter) -> None:
        self._experiment = experiment
        self._writer = writer
        self._recorder = Recorder(experiment.group_names, experiment.probes)
        self._rows: list[Row] = []
        self._decisions: list[Decision] = []
        self._step = 0
        self._evaluation: Evaluation | None = None
        self._started = time.perf_counter()
        self._evaluation_seconds = 0.0
        self._highest_lr = 0.0

    def updates(self) -> Iterator[Event]:
        """Train to the end, evaluating and writing when it is time to."""
        experiment, config = self._experiment, self._experiment.config
        updates = train(
            experiment.model,
            experiment.batches.batch,
            experiment.optimizer,
            experiment.scheduler,
            engine=experiment.engine,
            num_steps=experiment.num_steps,
            probes=experiment.probes,
        )
        for update in updates:
            self._step = update.step
            self._recorder.add(update)
            ends = update.step == experiment.num_steps or self._has_fallen_below_threshold()
            evaluates = ends or update.step % config.evaluate.every == 0
            if evaluates or update.step % config.telemetry.flush_every == 0:
                self.flush()
            yield update
            if evaluates:
                yield self._evaluate(update)
            if ends:
                break
        self._writer.write_checkpoint(self._step, {"model.safetensors": model_bytes(experiment.model)})

    def flush(self) -> None:
        """Write the rows and decisions since the last time; what could not be written stays for the next.

        Raises: DivergedError if the loss is not finite; StorageError.
        """
        self._rows += self._recorder.take_rows()
        if isinstance(self._experiment.scheduler, SignalScheduler):
            self._decisions += self._experiment.scheduler.take_decisions()
        rows, diverged = self._rows, divergence(self._rows)
        if diverged is not None:
            self._step = diverged.step  # the updates after it mean nothing
            self._decisions = [decision for decision in self._decisions if decision["step"] <= diverged.step]
        self._writer.write_rows(rows)
        self._rows = []
        self._writer.write_decisions(self._decisions)
        self._decisions = []
        self._write_events(rows)
        if diverged is not None:
            raise diverged

    def result(self) -> dict[str, Any]:
        """Figures of the run as far as it came; the time is that of everything but evaluations."""
        num_images = self._step * self._experiment.config.batch_size
        seconds = time.perf_counter() - self._started - self._evaluation_seconds
        return {
            "steps": self._step,
            "epochs": self._step / self._experiment.batches.steps_per_epoch,
            "test_accuracy": self._evaluation.accuracy if self._evaluation else None,
            "test_loss": self._evaluation.loss if self._evaluation else None,
            "train_seconds": seconds,
            "images_per_second": num_images / seconds,
        }

    def _write_events(self, rows: list[Row]) -> None:
        every = self._experiment.config.telemetry.every
        for row in rows:
            if step_of(row) % every == 0:
                self._writer.events.add_scalars(step_of(row), {name: row[name] for name in row if name != "step"})
        self._writer.events.flush()

    def _has_fallen_below_threshold(self) -> bool:
        """Whether dlib's ending has come: every rate is below the threshold, and was not before.

        A rate that is still warming up has not fallen.
        """
        threshold = self._experiment.config.stop_below_lr
        if threshold is None:
            return False
        rate = max(float(group["lr"]) for group in self._experiment.optimizer.param_groups)
        self._highest_lr = max(self._highest_lr, rate)
        return rate < threshold <= self._highest_lr

    def _evaluate(self, update: Update) -> Evaluated:
        started = time.perf_counter()
        evaluation = self._experiment.evaluate()
        self._evaluation = evaluation
        classes = self._experiment.data.classes
        title = f"step {update.step:,}: test accuracy {evaluation.accuracy:.1%}"
        self._writer.write_evaluation(
            {"step": update.step, "epoch": update.epoch, "split": "test", **asdict(evaluation)},
            png=confusion_png(evaluation.confusion, classes, title=title),
        )
        self._evaluation_seconds += time.perf_counter() - started
        return Evaluated(update.step, update.epoch, evaluation, classes)


def _build_batches(config: RunConfig, data: ImageData) -> Batches:
    side = max(data.train.images.shape[2:])
    if config.batch_size == 1 and side <= SIDE_OF_ONE_PIXEL:
        raise ConfigError(
            f"batch_size must be at least 2 for images of {side} pixels: layer4 sees one pixel of each, and batch "
            "normalisation needs two values. Pass --batch-size 2 or more."
        )
    augmentation = Augmentation(flip=config.data.flip, crop_padding=config.data.crop_padding)
    try:
        return Batches(data, batch_size=config.batch_size, seed=config.seed, augmentation=augmentation)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _status_after(error: BaseException) -> Status:
    if isinstance(error, DivergedError):
        return "diverged"
    return "preempted" if isinstance(error, GeneratorExit | KeyboardInterrupt) else "failed"
