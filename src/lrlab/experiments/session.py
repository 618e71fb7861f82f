"""The part of a run that changes while it goes: where it stands, and what is not written yet."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lrlab.config import to_toml
from lrlab.experiments.events import Evaluated, Event
from lrlab.experiments.facts import (
    check_same_data,
    describe,
    evaluation_figures,
    evaluation_record,
    resumed_with_reasons,
)
from lrlab.experiments.state import checkpoint_files, restore
from lrlab.report import confusion_png
from lrlab.runs import Checkpoint, Onlooker, RunWriter, StorageError
from lrlab.runs.storage import FELL_TO
from lrlab.schedulers import Decision, SignalScheduler
from lrlab.schedulers.base import NUM_DECISIONS
from lrlab.training import DivergedError, Evaluation, Recorder, Rows, Score, divergence, train

if TYPE_CHECKING:
    from lrlab.experiments.run import Experiment


class Session:
    """One run of an experiment into a directory: trains, evaluates, writes, and yields what happens."""

    def __init__(self, experiment: Experiment, writer: RunWriter | Onlooker) -> None:
        self._experiment = experiment
        self._writer = writer
        self._recorder = Recorder(experiment.group_names, experiment.probes)
        self._rows: list[Rows] = []  # of one flush each
        self._decisions: list[Decision] = []
        self.stopped = 0
        """By what, where it was asked to stop; 0 where it was not."""
        self._step = 0
        self._evaluated_at = 0  # update
        self._evaluation: Evaluation | None = None
        self._highest_lr = 0.0  # of the updates made, and of the coming one
        self._evaluation_seconds = 0.0
        self._started = self._saved = time.monotonic()  # which no change of the clock moves
        self._saved_at = 0  # update

    def begin(self) -> None:
        """Go on from the checkpoint that the writer found, if it did, and say in run.json what is at work.

        Raises: CheckpointError, DataError for a checkpoint of something else; RankError if ranks differ.
        """
        ranks, writer = self._experiment.ranks, self._writer
        ranks.check_same("configuration", to_toml(self._experiment.config))
        facts, engine = describe(self._experiment), self._experiment.engine
        ranks.check_same("images", facts["data"])
        ranks.check_same("device, precision or compiler", (engine.device.type, engine.precision, engine.compile))
        checkpoint, info = ranks.first((writer.checkpoint, dict(writer.info)))
        if checkpoint is not None:
            with ranks.together():
                self._go_on(checkpoint, info)
        writer.describe(**facts)

    def _go_on(self, checkpoint: Checkpoint, info: Mapping[str, Any]) -> None:
        """Put the experiment where a checkpoint left it; warn of what keeps it from going on exactly so."""
        experiment = self._experiment
        check_same_data(experiment.data, info)
        state = restore(experiment, checkpoint.files)
        self._step = self._saved_at = checkpoint.step
        self._evaluated_at = state["evaluated_at"]
        if (last := state["evaluation"]) is not None:
            self._evaluation = Evaluation(**{**last, "mirror": last["mirror"] and Score(**last["mirror"])})
        self._highest_lr = state["highest_lr"]
        self._evaluation_seconds = state["evaluation_seconds"]
        self._started -= state["seconds"] + state["evaluation_seconds"]
        if isinstance(self._writer, RunWriter):
            before, fell_to = self._writer.before, self._fell_to()
            resumed = resumed_with_reasons(experiment, before, info, checkpoint, fell_to=fell_to)
            self._writer.describe(resumed=resumed)

    def updates(self, stop: Callable[[], int]) -> Iterator[Event]:
        """Train to the end, or until it is stopped, evaluating, writing and saving when it is time to."""
        experiment, config = self._experiment, self._experiment.config
        self._highest_lr = max(self._highest_lr, self._rate())  # of the first update; the others' come after each
        updates = train(
            experiment.network,
            experiment.batch,
            experiment.optimizer,
            experiment.scheduler,
            num_steps=experiment.num_steps,
            num_made=self._step,
            probes=experiment.probes,
            label_smoothing=config.label_smoothing,
        )
        if self._step and self._is_over():
            updates = iter(())
        if self._step and self._must_evaluate():  # it was stopped between an update and its evaluation
            yield self._evaluate()
        for update in updates:
            self._step = update.step
            self._highest_lr = max(self._highest_lr, self._rate())  # without a threshold too: it may get one
            self._recorder.add(update)
            experiment.average_weights(update.step)
            ends, evaluates = self._is_over(), self._must_evaluate()
            self.stopped, saves = divmod(experiment.ranks.highest(2 * stop() + self._must_save()), 2)
            if ends:
                self.stopped = 0  # too late
            evaluates = evaluates and not self.stopped  # there may not be the time; it is done when the run goes on
            if evaluates or saves or self._must_flush():
                self.flush()
            yield update
            if evaluates:
                yield self._evaluate()
            if saves:
                self.save()
            if ends or self.stopped:
                break
        if self.stopped:
            self.end_early(saves=True)
        else:
            self.save(waits=True)

    def save(self, *, waits: bool = False) -> None:
        """Have a checkpoint written, of the update that was made last, all rows being given to the writer.

        Args:
            waits: until it is on disk. Else the training goes on, and one that cannot be written is warned of later.
        Raises: StorageError, of the rows, and with `waits` of the checkpoint.
        """
        if self._step != self._saved_at:
            if (problem := self._writer.checkpoint_problem) is not None and not waits:
                warnings.warn(f"the last checkpoint could not be written ({problem}); trying again.", stacklevel=2)
            experiment = self._experiment
            experiment.ranks.check_same_number("weights", experiment.network.checksum())
            if self._evaluated_at < self._step:
                experiment.settle_average(self._step)
            if isinstance(self._writer, RunWriter):
                files = checkpoint_files(experiment, self._state())
                self._writer.write_checkpoint(self._step, files, keep=experiment.config.checkpoint.keep)
            self._saved, self._saved_at = time.monotonic(), self._step
        if waits:  # for one that was under way already, too
            self._writer.wait()
            if self._writer.checkpoint_problem is not None:
                raise self._writer.checkpoint_problem

    def end_early(self, *, saves: bool) -> None:
        """Write what there is, where that is possible; save it too unless it stands within an update."""
        try:
            self.flush()
            if saves:
                if self._is_over() and self._evaluated_at < self._step:  # too late to stop, as in `updates`
                    self._evaluate()
                self.save(waits=True)
        except DivergedError:
            pass
        except StorageError as error:
            if self._experiment.ranks.size > 1:  # the others are about to save
                raise
            if saves:  # else there is an error already, and this one is mostly the same
                warnings.warn(f"the run could not be saved where it stands ({error})", stacklevel=2)

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
        seconds, fell_to = self._seconds(), self._fell_to()
        return {
            "steps": self._step,
            "epochs": self._step / self._experiment.batches.steps_per_epoch,
            **evaluation_figures(self._experiment, self._evaluation),
            "train_seconds": seconds,
            "images_per_second": self._step * self._experiment.config.batch_size / seconds,
            **({} if fell_to is None else {FELL_TO: fell_to}),
        }

    def _state(self) -> dict[str, Any]:
        """What a session must know to go on, of plain values."""
        return {
            "evaluated_at": self._evaluated_at,
            "evaluation": asdict(self._evaluation) if self._evaluation else None,
            "highest_lr": self._highest_lr,
            "seconds": self._seconds(),
            "evaluation_seconds": self._evaluation_seconds,
        }

    def _seconds(self) -> float:
        """Seconds of everything but evaluations, in this process and in those before it."""
        return time.monotonic() - self._started - self._evaluation_seconds

    def _is_over(self) -> bool:
        return self._step == self._experiment.num_steps or self._fell_to() is not None

    def _must_evaluate(self) -> bool:
        is_time = self._step % self._experiment.config.evaluate.every == 0 or self._is_over()
        return is_time and self._evaluated_at < self._step

    def _must_flush(self) -> bool:
        decisions = getattr(self._experiment.scheduler, "decisions", ())  # of which it keeps no more than so many
        return self._step % self._experiment.config.telemetry.flush_every == 0 or len(decisions) >= NUM_DECISIONS

    def _must_save(self) -> bool:
        config = self._experiment.config.checkpoint
        by_count = config.every is not None and self._step % config.every == 0
        return by_count or time.monotonic() - self._saved >= 60 * config.minutes

    def _fell_to(self) -> float | None:
        """Highest rate, where dlib's ending has come: every rate is below the threshold, and was not before; else None.

        A rate that is still warming up has not fallen.
        """
        threshold, rate = self._experiment.config.stop_below_lr, self._rate()
        return rate if threshold is not None and rate < threshold <= self._highest_lr else None

    def _rate(self) -> float:
        return max(float(group["lr"]) for group in self._experiment.optimizer.param_groups)

    def _evaluate(self) -> Evaluated:
        """Evaluate, and write it with the seconds so far: of training, and of evaluations with this one."""
        experiment, started = self._experiment, time.monotonic()
        seconds = self._seconds()
        evaluation = experiment.evaluate(self._step)
        if self._is_over() and not math.isfinite(evaluation.loss):  # else the next update shows it
            raise DivergedError(self._step, evaluated=evaluation.loss)
        times = {"seconds": seconds, "evaluation_seconds": self._evaluation_seconds + time.monotonic() - started}
        self._evaluation, self._evaluated_at = evaluation, self._step
        classes, record = experiment.data.classes, evaluation_record(experiment, evaluation, self._step, times)
        title = f"step {self._step:,}: {record['split']} accuracy {evaluation.accuracy:.1%}"
        if isinstance(self._writer, RunWriter):
            self._writer.write_evaluation(record, png=confusion_png(evaluation.confusion, classes, title=title))
        self._evaluation_seconds += time.monotonic() - started
        return Evaluated(self._step, record["epoch"], record["split"], evaluation, classes)
