"""One experiment: everything that a run is made of, built from its configuration."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from lrlab.config import RunConfig
from lrlab.config.schedules import OWN_RATES
from lrlab.data import Batch, ImageData, evaluation_batches, set_aside
from lrlab.experiments.build import (
    build_average,
    build_batches,
    build_data,
    build_layer_probes,
    build_model,
    build_noise_probe,
    build_optimizer,
    update_average,
)
from lrlab.experiments.build_scheduler import build_scheduler, warn_if_the_rate_never_moves
from lrlab.experiments.events import Event
from lrlab.experiments.facts import check_images_of_run, check_same_data
from lrlab.experiments.session import Session
from lrlab.models import layer_groups
from lrlab.probes import GradientProbe, OutputGradientProbe, Probe
from lrlab.runs import Onlooker, RunWriter, Status
from lrlab.runs.environment import num_usable_cpus
from lrlab.training import (
    ALONE,
    DivergedError,
    Engine,
    Evaluation,
    Network,
    Ranks,
    choose_engine,
    estimate_statistics,
    evaluate,
    memory_errors,
    synchronise,
)

NUM_IMAGES_FOR_STATISTICS = 2_000
"""Training images by which the statistics of batch normalisation are estimated for averaged weights."""


class Experiment:
    """Everything of one run that is made before its first update, so that what is wrong shows before any work."""

    def __init__(self, config: RunConfig, *, data: ImageData | None = None, ranks: Ranks = ALONE) -> None:
        """Build all of it.

        Args:
            config: what to run.
            data: the data set that `config.data` names, where it is loaded already.
            ranks: that make the run together; each is given the same configuration.
        Raises: ConfigError, DataError, EngineError, OutOfMemoryError.
        """
        self.config = config
        self.ranks = ranks
        engine_config = config.engine
        with ranks.together():  # before some wait for others to load the data
            self.engine: Engine = choose_engine(
                device=config.device,
                precision=engine_config.precision,
                threads=engine_config.threads or _share_of_threads(ranks),
                compile=engine_config.compile,
                keep_memory=engine_config.keep_memory,
                flush_denormals=engine_config.flush_denormals,
            )
        with memory_errors(
            f"the images of {config.data.name} and a network of width {config.model.width} do not fit. Lower "
            "model.width, or free memory."
        ):
            if data is None:
                with ranks.first_here():
                    data = build_data(config.data)
            elif config.data.validation_fraction is not None and data.validation is None:
                data = set_aside(data, config.data.validation_fraction)
            self.data = data.to(self.engine.device)
            self.batches = build_batches(config, self.data, ranks)
            self.num_steps = config.steps or (config.epochs or 0) * self.batches.steps_per_epoch
            model = build_model(
                config.model, num_classes=len(self.data.classes), in_channels=self.data.num_channels, seed=config.seed
            )
            if config.model.batchnorm == "synchronised":
                model = synchronise(model, ranks, device=self.engine.device)
            self.model: nn.Module = self.engine.place(model)
            self.network = Network(self.model, layer_groups(self.model), engine=self.engine, ranks=ranks)
            self.average = build_average(config.averaging, self.model)  # before the probes, whose hooks it would copy
            groups = self.network.groups
            self.group_names = list(groups)
            self.optimizer = build_optimizer(config.optimizer, groups)
            self.scheduler: LRScheduler = build_scheduler(config, self.optimizer, num_steps=self.num_steps)
            self.probes: list[Probe] = [
                GradientProbe(groups, every=config.telemetry.every, sums=self.network.gradient_sums),
                OutputGradientProbe(
                    dict(self.model.named_children()), every=config.telemetry.outputs_every, total=self.network.total
                ),
                *build_layer_probes(config.telemetry, self.network, self.optimizer),
                *build_noise_probe(config, self.model, self.network.layers, self.batches.batch),
            ]
        self.status: Status | None = None
        """How the run stands in its directory; None until there is one."""
        self.stopped = 0
        """What `stop` said, where it ended the run."""
        warn_if_the_rate_never_moves(config, self.scheduler, num_steps=self.num_steps)

    def summary(self) -> str:
        """Say in a line what will be done."""
        data, config, engine = self.data, self.config, self.engine
        split, evaluated = data.evaluated
        rate = "" if config.schedule.name in OWN_RATES else f" at {config.optimizer.lr:g}"
        shared = f" shared by {self.ranks.size} ranks" if self.ranks.size > 1 else ""
        return (
            f"{data.name}: {len(data.train):,} training and {len(evaluated):,} {split} images in {len(data.classes)} "
            f"classes; {config.model.name} of width {config.model.width}, {config.optimizer.name}{rate}, "
            f"schedule {config.schedule.name}, seed {config.seed}, "
            f"{self.num_steps:,} updates of {config.batch_size} images{shared} on {engine.device} in {engine.precision}"
        )

    def batch(self, step: int) -> Batch:
        """The batch of one update; of several ranks, this one's part of it."""
        return self.batches.batch(step, part=self.ranks.rank, num_parts=self.ranks.size)

    def run(
        self, directory: Path | str, *, resumes: bool = False, stop: Callable[[], int] = lambda: 0
    ) -> Generator[Event, None, None]:
        """Make the run in a new directory, and yield every update and evaluation once it is made.

        Whoever iterates may stop early, by `close()`; the run is then `preempted`, saved where it stands, after its
        last update evaluated too. Of several ranks rank 0 alone reads and writes, and only `stop` ends all of them.

        Args:
            directory: new or empty.
            resumes: whether a run in it that was cut short goes on, from its newest sound checkpoint. It then ends as
                if it had never stopped; where the machine has changed so that it cannot, a warning says so.
            stop: asked after every update; a number above 0, on any rank, ends the run there as `preempted`. It is then
                in `stopped`, the highest of the ranks'.
        Raises: DivergedError before an update whose loss or gradient is not finite; RunError, LockedError and
            StorageError of the directory; CheckpointError, DataError for a checkpoint or images of another run;
            OutOfMemoryError; RankError if another rank is lost, ElsewhereError if it fails; RuntimeError if this
            experiment was run before, since its weights are no longer the initial ones.
        """
        if self.status is not None:
            raise RuntimeError("This experiment was run before: make a new Experiment for another run.")
        with ExitStack() as stack:
            writer: RunWriter | Onlooker = Onlooker()
            with self.ranks.together():
                if self.ranks.rank == 0:
                    if resumes:
                        check_images_of_run(self.data, Path(directory))
                    writer = RunWriter(directory, self.config, resumes=resumes, num_steps=self.num_steps)
                stack.enter_context(writer)
            self.status = "running"
            session, has_begun = Session(self, writer), False
            try:
                session.begin()
                has_begun = True
                with memory_errors(self._memory_advice()), self.ranks.watched():
                    yield from session.updates(stop)
            except BaseException as error:  # whatever it was, what was recorded so far is kept
                self.status = _status_after(error)
                if isinstance(error, DivergedError):
                    writer.describe(diverged={"step": error.step, "group": error.group, "message": str(error)})
                # of several ranks, the others have not stopped here
                session.end_early(saves=isinstance(error, GeneratorExit) and self.ranks.size == 1)
                raise
            else:
                self.stopped = session.stopped
                self.status = "preempted" if self.stopped else "complete"
            finally:
                for probe in self.probes:
                    probe.detach()
                if has_begun or not writer.before.get("result"):
                    writer.finish(self.status, session.result())
                else:  # it could not be gone on with, and stays what it was
                    writer.finish(writer.before["status"], writer.before["result"])

    @property
    def evaluated_model(self) -> nn.Module:
        """What is evaluated and kept: the average of the weights once there is one, else the model itself."""
        # the count of averagings is on the processor, so that nothing is waited for
        return self.average.module if self.average is not None and self.average.n_averaged > 0 else self.model

    def average_weights(self, step: int) -> None:
        """Take the weights after an update into their average, where there is one and it is time to."""
        if self.average is not None and step % self.config.averaging.every == 0:
            update_average(self.average, self.model)

    def settle_average(self, step: int) -> None:
        """Give the average, where there is one, the statistics of its own activations on the last batches."""
        if self.evaluated_model is self.model:
            return
        first = step - min(step, -(-NUM_IMAGES_FOR_STATISTICS // self.config.batch_size))
        # synchronised, each rank gives its part; else each the whole batch, so that all come to the same
        batch = self.batch if self.config.model.batchnorm == "synchronised" else self.batches.batch
        images = (batch(earlier).images for earlier in range(first + 1, step + 1))
        estimate_statistics(self.evaluated_model, images, engine=self.engine)

    def evaluate(self, step: int) -> Evaluation:
        """Evaluate the model after an update, or the average of its weights, on the whole test or validation split."""
        self.settle_average(step)
        batches = evaluation_batches(
            self.data.evaluated[1], mean=self.data.mean, std=self.data.std, batch_size=self.config.evaluate.batch_size
        )
        return evaluate(
            self.evaluated_model,
            batches,
            engine=self.engine,
            num_classes=len(self.data.classes),
            mirror=self.config.evaluate.mirror,
            ranks=self.ranks,
        )

    def _memory_advice(self) -> str:
        config = self.config
        return (
            f"updates of {config.batch_size} images and evaluations of {config.evaluate.batch_size}, at width "
            f"{config.model.width}, do not fit. Lower batch_size, evaluate.batch_size or model.width, or free memory. "
            "The checkpoints are as they were."
        )


def experiment_to_measure(config: RunConfig, info: Mapping[str, Any]) -> Experiment:
    """Build an experiment whose network is looked at and not trained: its probes watch nothing, nothing is compiled.

    Args:
        config: of the run.
        info: the run's run.json.
    Raises: as `Experiment`; DataError if the images are no longer those of the run.
    """
    engine = config.engine.model_copy(update={"compile": False})
    experiment = Experiment(config.model_copy(update={"engine": engine}))
    for probe in experiment.probes:
        probe.detach()
    check_same_data(experiment.data, info)
    return experiment


def _share_of_threads(ranks: Ranks) -> int | None:
    """A rank's share of its machine's processors, since torchrun starts each with one thread; else PyTorch's choice."""
    return None if ranks.size == 1 else max(1, num_usable_cpus() // ranks.local_size)


def _status_after(error: BaseException) -> Status:
    if isinstance(error, DivergedError):
        return "diverged"
    return "preempted" if isinstance(error, GeneratorExit | KeyboardInterrupt) else "failed"
