"""The part of a run that changes while it goes: where it stands, and what is not written yet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lrlab.data.images import SplitName
from lrlab.report import confusion_png
from lrlab.runs import RunWriter
from lrlab.schedulers import Decision, SignalScheduler
from lrlab.training import Evaluation, Recorder, Rows, Update, divergence, train
from lrlab.training.checkpoint import model_bytes

if TYPE_CHECKING:
    from lrlab.experiments.run import Experiment


@dataclass(frozen=True)
class Evaluated:
    """The test set was evaluated, or the validation images where some are set aside."""

    step: int
    epoch: int
    split: SplitName
    evaluation: Evaluation
    classes: tuple[str, ...]


Event = Update | Evaluated
"""What a run yields."""


class Session:
    """One run of an experiment into a directory: trains, evaluates, writes, and yields what happens."""

    def __init__(self, experiment: Experiment, writer: RunWriter) -> None:
        self._experiment = experiment
        self._writer = writer
        self._recorder = Recorder(experiment.group_names, experiment.probes)
        self._rows: list[Rows] = []  # of one flush each
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
            experiment.network,
            experiment.batches.batch,
            experiment.optimizer,
            experiment.scheduler,
            num_steps=experiment.num_steps,
            probes=experiment.probes,
            label_smoothing=config.label_smoothing,
        )
        for update in updates:
            self._step = update.step
            self._recorder.add(update)
            experiment.average_weights(update.step)
            ends = update.step == experiment.num_steps or self._has_fallen_below_threshold()
            evaluates = ends or update.step % config.evaluate.every == 0
            if evaluates or update.step % config.telemetry.flush_every == 0:
                self.flush()
            yield update
            if evaluates:
                yield self._evaluate(update)
            if ends:
                break
        self._writer.wait()  # a checkpoint lies behind its rows
        self._writer.write_checkpoint(self._step, {"model.safetensors": model_bytes(experiment.evaluated_model)})

    def flush(self) -> None:
        """Write the rows and decisions since the last time; what could not be written stays for the next.

        Raises: DivergedError if the loss is not finite; StorageError.
        """
        rows = self._recorder.take_rows()
        if len(rows["step"]):
            self._rows.append(rows)
        if isinstance(self._experiment.scheduler, SignalScheduler):
            self._decisions += self._experiment.scheduler.take_decisions()
        diverged = divergence(self._rows[-1]) if self._rows else None
        if diverged is not None:
            self._step = diverged.step  # the updates after it mean nothing
            self._decisions = [decision for decision in self._decisions if decision["step"] <= diverged.step]
        while self._rows:
            self._writer.write_rows(self._rows[0])
            del self._rows[0]
        self._writer.write_decisions(self._decisions)
        self._decisions = []
        if diverged is not None:
            raise diverged

    def result(self) -> dict[str, Any]:
        """Figures of the run as far as it came; the time is that of everything but evaluations."""
        num_images = self._step * self._experiment.config.batch_size
        seconds = time.perf_counter() - self._started - self._evaluation_seconds
        return {
            "steps": self._step,
            "epochs": self._step / self._experiment.batches.steps_per_epoch,
            **self._evaluation_result(),
            "train_seconds": seconds,
            "images_per_second": num_images / seconds,
        }

    def _evaluation_result(self) -> dict[str, float | None]:
        """The figures of the last evaluation, under the name of its split; None for those that were not measured."""
        split, _ = self._experiment.data.evaluated
        found = self._evaluation
        result = dict.fromkeys(("test_accuracy", "test_loss"))  # promised, whatever is evaluated
        result |= {f"{split}_accuracy": found and found.accuracy, f"{split}_loss": found and found.loss}
        if self._experiment.config.evaluate.mirror:
            result[f"{split}_accuracy_mirror"] = found.mirror.accuracy if found and found.mirror else None
        return result

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
        """Evaluate, and write it with the seconds so far: of training, and of evaluations with this one."""
        started = time.perf_counter()
        evaluation = self._experiment.evaluate(update.step)
        times = {
            "seconds": started - self._started - self._evaluation_seconds,
            "evaluation_seconds": self._evaluation_seconds + time.perf_counter() - started,
        }
        self._evaluation = evaluation
        classes, split = self._experiment.data.classes, self._experiment.data.evaluated[0]
        title = f"step {update.step:,}: {split} accuracy {evaluation.accuracy:.1%}"
        record = {"step": update.step, "epoch": update.epoch, **times, "split": split, **asdict(evaluation)}
        if evaluation.mirror is None:
            del record["mirror"]
        self._writer.write_evaluation(record, png=confusion_png(evaluation.confusion, classes, title=title))
        self._evaluation_seconds += time.perf_counter() - started
        return Evaluated(update.step, update.epoch, split, evaluation, classes)
