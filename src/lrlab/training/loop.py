"""The training loop: a generator that yields what happened. Whoever iterates stores, prints, draws and stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrlab.data import Batch
from lrlab.probes import Probe
from lrlab.schedulers import SignalScheduler
from lrlab.training.network import Network


@dataclass(frozen=True, eq=False)
class Update:
    """One optimizer update that was made."""

    step: int
    """Updates made so far, from 1."""
    epoch: int
    """Pass over the training set that it belongs to, from 1."""
    loss: Tensor
    """The loss of its batch before the update, as it is trained on: smoothed labels included; (), on the device."""
    lrs: tuple[float | Tensor, ...]
    """Rate that each parameter group was updated with, in the optimizer's order."""


def train(
    network: Network,
    batches: Callable[[int], Batch],
    optimizer: Optimizer,
    scheduler: LRScheduler,
    *,
    num_steps: int,
    num_made: int = 0,
    probes: Sequence[Probe] = (),
    label_smoothing: float = 0.0,
) -> Iterator[Update]:
    """Make the updates up to the `num_steps`-th, and yield each.

    The beat is between `backward()` and `optimizer.step()`: gradients are final there and the weights have not
    moved, so schedulers and probes observe there. Between two updates the caller may do as it likes, evaluate the
    model for instance, as long as it leaves it in training mode.

    Of several ranks each gives its part of every batch; all see the loss and the gradient of the whole one.

    Args:
        network: maps images (B, C, H, W) to logits (B, num_classes).
        batches: step, from 1 -> batch; a pure function, so that the position is all there is to remember.
        optimizer: over the network's groups.
        scheduler: stepped after every update; a SignalScheduler is told the loss.
        num_steps: updates of the whole training.
        num_made: updates made before, by a training that this one goes on with.
        probes: told of every update, and decide themselves which they measure.
        label_smoothing: share of each label's weight that is spread over all classes, in [0, 1).
    Raises: DivergedError before an update that the loss or a gradient rules out, since it is not finite; on a GPU,
        where looking would mean waiting, the rows show it (`lrlab.training.divergence`).
    """
    network.model.train()
    for step in range(num_made + 1, num_steps + 1):
        batch = batches(step)
        is_watched = any(probe.due and probe.watches_forward for probe in probes)
        logits = network.logits(batch.images, compiles=not is_watched)
        loss = network.backward(F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing))
        network.check_finite(batch, loss)
        if isinstance(scheduler, SignalScheduler):
            scheduler.observe(loss)
        for probe in probes:
            probe.observe()
        lrs = tuple(_copy(group["lr"]) for group in optimizer.param_groups)
        optimizer.step()
        scheduler.step()
        yield Update(step, batch.epoch, loss, lrs)


def _copy(lr: float | Tensor) -> float | Tensor:
    return lr.clone() if isinstance(lr, Tensor) else lr  # schedulers write a tensor rate in place
