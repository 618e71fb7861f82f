"""Lightning: a callback that tells schedulers the loss of each batch, and lets probes measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from lrlab.probes.base import Probe
from lrlab.schedulers.base import SignalScheduler, UpdateCount


class ObserveCallback(pl.Callback):
    """Tells the schedulers that `configure_optimizers` returned the loss of each batch, once its gradient is there.

        def configure_optimizers(self):
            optimizer = SGD(self.parameters(), lr=0.1)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": SlopeLR(optimizer), "interval": "step"}}

        Trainer(callbacks=[ObserveCallback()])

    The loss is what `training_step` returned, whatever Lightning divides it by for accumulation or multiplies it by for
    mixed precision; nothing waits for the device. Lightning's checkpoints hold the scheduler's state.

    Args:
        probes: each observes once an update, when the gradient is whole and unscaled, and not clipped yet; where
            `training_step` returned None there is none, and the update counts for nobody. After a resume they count on
            from there. Of an optimizer that calls its closure several times, as LBFGS does, the first call counts.
    Raises: ValueError before the training, for a scheduler that Lightning would not step once after every update, in
        manual optimization for any scheduler and for probes where there are several optimizers, and where there is
        neither a scheduler that listens nor a probe.
    """

    def __init__(self, *, probes: Sequence[Probe] = ()) -> None:
        self.probes = tuple(probes)
        self._schedulers: list[SignalScheduler] = []
        self._loss: Tensor | None = None  # of the batch that is between forward and backward
        self._has_gradient = False  # of the coming update
        self._num_backwards = 0  # of this batch
        self._has_observed = False
        self._made: list[UpdateCount] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the schedulers, and see that Lightning will step them after every update."""
        self._schedulers = [_checked(config) for config in trainer.lr_scheduler_configs if _listens(config)]
        if self._schedulers and not pl_module.automatic_optimization:
            raise ValueError(
                "ObserveCallback: in manual optimization only the module knows which loss belongs to which update. "
                "Leave the callback out, and call scheduler.observe(loss) after self.manual_backward(loss)."
            )
        if not pl_module.automatic_optimization and len(trainer.optimizers) > 1:
            raise ValueError(
                "ObserveCallback: with several optimizers only the module knows which probe belongs to which. Leave "
                "the callback out, and call probe.observe() before optimizer.step()."
            )
        # elsewhere every update is made, though not always by a step() that calls hooks
        has_scaler = getattr(trainer.precision_plugin, "scaler", None) is not None
        self._made = [UpdateCount(optimizer) for optimizer in trainer.optimizers] if has_scaler else []
        if not self._schedulers and not self.probes:
            raise ValueError(
                "ObserveCallback: there is no rule and no probe. Return a rule from configure_optimizers, "
                'as {"optimizer": optimizer, "lr_scheduler": {"scheduler": SlopeLR(optimizer), "interval": "step"}}.'
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the probes count on from a checkpoint."""
        made = max((scheduler.last_epoch for scheduler in self._schedulers), default=trainer.global_step)
        for probe in self.probes:
            probe.num_updates = max(probe.num_updates, made)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin to count the evaluations of this batch."""
        self._num_backwards = 0

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keep the loss, as training_step returned it, until its gradient is there."""
        loss = loss.detach().to(torch.promote_types(loss.dtype, torch.float32))
        loss = loss * trainer.accumulate_grad_batches  # Lightning divided it
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None:
            loss = loss / scaler.scale(
                torch.ones_like(loss)
            )  # and multiplied it; get_scale() would wait for the device
        self._loss = loss

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell every scheduler the loss."""
        self._num_backwards += 1
        if self._loss is not None and not self._is_again(pl_module):
            for scheduler in self._schedulers:
                scheduler.observe(self._loss)
        self._loss, self._has_gradient = None, True

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Let the probes measure; where no batch had a loss, Lightning makes an update all the same, of no gradient."""
        if self._is_again(pl_module):
            return
        if self._has_gradient:
            for probe in self.probes:
                probe.observe()
            self._has_observed = pl_module.automatic_optimization and bool(self._made)
            for made in self._made:
                made.count = 0
        else:
            for scheduler in self._schedulers:
                scheduler.discount()
        self._has_gradient = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let the probes forget an update that GradScaler left out."""
        if self._has_observed and not any(made.count for made in self._made):
            for probe in self.probes:
                probe.forget()
        self._has_observed = False

    def _is_again(self, pl_module: pl.LightningModule) -> bool:
        """Whether the optimizer calls its closure once more for the same update."""
        return pl_module.automatic_optimization and self._num_backwards > 1


def _listens(config: Any) -> bool:
    return isinstance(config.scheduler, SignalScheduler)


def _checked(config: Any) -> SignalScheduler:
    """The scheduler of a Lightning configuration, if it will be stepped once after every update."""
    scheduler: SignalScheduler = config.scheduler
    if config.interval != "step" or config.frequency != 1:
        name = type(scheduler).__name__
        raise ValueError(
            f'{name}: it counts updates, and Lightning would step it with interval "{config.interval}" and frequency '
            f"{config.frequency}. Return "
            f'{{"optimizer": optimizer, "lr_scheduler": {{"scheduler": {name}(optimizer, ...), "interval": "step"}}}}.'
        )
    return scheduler
