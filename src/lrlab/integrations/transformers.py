"""Hugging Face's Trainer: what tells its scheduler the loss of each update, and lets probes measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lrlab.probes.base import Probe
from lrlab.schedulers.base import SignalScheduler


def listen(trainer: Trainer, *, probes: Sequence[Probe] = ()) -> ObserveCallback:
    """Tell the trainer's scheduler the loss of each update, before the optimizer makes it.

        trainer = Trainer(..., optimizers=(optimizer, SlopeLR(optimizer)))
        listen(trainer)

    The loss of an update is the sum of what `training_step` returned for its batches, which the Trainer has divided
    already: by the number of batches, or by the number of items in all of them. Nothing waits for the device. The
    Trainer's checkpoints hold the scheduler's state. Listening twice is listening once.

    Args:
        trainer: any Trainer whose `training_step` returns the loss, as the Trainer's does; before `train()`.
        probes: each observes once an update, when the gradient is whole and, where `max_grad_norm` is above 0, clipped.
            After a resume they count on from there.
    Returns: the callback that does it, already added to the trainer.
    Raises: ValueError when the training begins, if the trainer's scheduler does not listen.
    """
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, ObserveCallback):
            callback.probes = (*callback.probes, *(probe for probe in probes if probe not in callback.probes))
            return callback
    callback = ObserveCallback(trainer, probes)
    trainer.add_callback(callback)
    # no event of a callback has the loss; this method is one that the Trainer documents as open to change
    trainer.training_step = partial(_heard, callback, trainer.training_step)
    return callback


def _heard(callback: ObserveCallback, training_step: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """What `training_step` returns, once the callback has heard it; a function, so that a trainer can be pickled."""
    loss = training_step(*args, **kwargs)
    callback.hear(loss)
    return loss


class ObserveCallback(TrainerCallback):
    """What `listen` adds to a trainer: it adds up the losses of an update's batches, and tells the scheduler."""

    def __init__(self, trainer: Trainer, probes: Sequence[Probe]) -> None:
        self.trainer = trainer
        self.probes = tuple(probes)
        self._loss: Tensor | float = 0.0  # of the coming update, as far as its batches are through

    def hear(self, loss: Tensor) -> None:
        """Add the share of one batch to the loss of the coming update."""
        self._loss = self._loss + loss.detach().to(torch.promote_types(loss.dtype, torch.float32))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """See that there is a scheduler to tell, and let the probes count on from a checkpoint."""
        scheduler = kwargs["lr_scheduler"]
        if not isinstance(scheduler, SignalScheduler):
            raise ValueError(
                f"listen: the trainer's scheduler must be a rule, as SlopeLR, got {type(scheduler).__name__}. "
                "Use Trainer(..., optimizers=(optimizer, SlopeLR(optimizer)))."
            )
        self._loss = 0.0
        for probe in self.probes:
            probe.num_updates = max(probe.num_updates, scheduler.last_epoch)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the scheduler the loss of the update, and let the probes measure."""
        kwargs["lr_scheduler"].observe(self._loss)
        self._loss = 0.0
        for probe in self.probes:
            probe.observe()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Let the scheduler and the probes forget an update that GradScaler left out; the Trainer does not step it."""
        if self.trainer.accelerator.optimizer_step_was_skipped:
            kwargs["lr_scheduler"].step()
            for probe in self.probes:
                probe.forget()
