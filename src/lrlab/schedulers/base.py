"""What every scheduler that listens shares: it is told of each update once, and knows which were made."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Decision = dict[str, Any]
"""One look of a rule at its evidence: step, rule, what was measured, threshold, decision, lr_before, lr_after."""

NUM_DECISIONS = 10_000
"""Decisions that are kept for `take_decisions`; of those that nobody takes the latest."""

NUM_STEPS_WITHOUT_AN_UPDATE = 100
"""Calls of `step()` after which an optimizer that has not made its first update is taken for the wrong one."""

NUM_STEPS_SINCE_AN_UPDATE = 1_000
"""Calls of `step()` after which one that made some is: more than Accelerate has processes, or GradScaler leaves out."""


_PRECISE = (torch.float32, torch.float64)

_NOT_SEQUENTIAL = "(In torch's SequentialLR only the first part can be a rule. For a warm-up, use PhasesLR.)"


class SignalScheduler(LRScheduler):
    """A learning-rate scheduler that listens to the training it steers.

    In a loop, tell it the loss between `backward()` and `optimizer.step()`, and step it afterwards:

        scheduler.observe(loss)     # a tensor on the device is fine: nothing is synchronised
        optimizer.step()
        scheduler.step()

    or, in one call after `optimizer.step()`, `scheduler.step(loss)`. Where gradients of several batches make one
    update, call `observe` after each of their backward passes: the loss of the update is the mean.

    It counts the updates that the optimizer really made. A `step()` after one that it did not make, because
    GradScaler found an infinity, changes nothing, and its loss is forgotten; nor does a second `step()` after one
    update, as Accelerate calls it for each process. A rule that needs the loss and was not told it raises, since the
    failure would otherwise be a silently constant rate; so does a `step()` after several updates, as once an epoch.

    `state_dict()` holds all that a scheduler has learnt and none of its settings: tensors, numbers, strings, and lists
    and dicts of them, so that it loads under `weights_only=True`. The rates are the optimizer's, and saved with it.

    A child says in `_STATE` which of its attributes it has learnt, and does its work in `_advance`.

    Args:
        optimizer: its rates are read from, and written to, `param_groups[i]["lr"]`; nothing else holds them.
    """

    _STATE: ClassVar[tuple[str, ...]] = ("last_epoch", "_step_count", "_last_lr", "decisions")

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: it needs an optimizer, got {type(optimizer).__name__}.")
        self.decisions: list[Decision] = []
        self._loss: Tensor | float = 0.0  # of the coming update: sum over the batches observed
        self._num_observed = 0
        self._num_idle = 0
        self._made = UpdateCount(optimizer)
        super().__init__(optimizer)

    @property
    def needs_observe(self) -> bool:
        """Whether `observe` must be called for every update."""
        return True

    def observe(self, loss: Tensor | float) -> None:
        """Take note of the loss of one batch of the coming update, once its gradient is there."""
        if self._num_observed and self._made.count:
            raise RuntimeError(
                f"{type(self).__name__}: the optimizer made an update and step() was not called. "
                f"Call scheduler.step() once after each optimizer.step(). {_NOT_SEQUENTIAL}"
            )
        self._note(loss)
        self._read_gradients()

    def step(self, loss: Tensor | float | None = None) -> None:
        """Count one update and decide where it is time to. With a loss, observe it first."""
        if self.last_epoch == -1:  # torch calls step() once inside its constructor
            super().step()
            return
        num_made, num_observed = max(0, self._made.count), self._num_observed + (loss is not None)
        if num_made > 1:
            raise RuntimeError(
                f"{type(self).__name__}: the optimizer made {num_made} updates since the last step(). It counts "
                f"updates, not epochs: call scheduler.step() once after each optimizer.step(). {_NOT_SEQUENTIAL}"
            )
        if num_made and not num_observed and self.needs_observe:
            raise RuntimeError(
                f"{type(self).__name__} was not given the loss of this update: call scheduler.observe(loss) after "
                "loss.backward() and before optimizer.step(), or scheduler.step(loss)."
            )
        if num_made and not self._num_observed and self._reads_gradients:
            raise RuntimeError(
                f"{type(self).__name__} measures gradients, which the update may have changed: call "
                "scheduler.observe(loss) after loss.backward() and before optimizer.step(), then scheduler.step()."
            )
        if loss is not None and num_made:
            self._note(loss)
        told = self._loss / self._num_observed if self._num_observed > 1 else self._loss
        self._loss, self._num_observed, self._made.count = 0.0, 0, 0
        if num_made:
            self._made.ever, self._num_idle = True, 0
            self._go_on(told)
        else:
            self._check_it_ever_steps()

    def discount(self) -> None:
        """Take the optimizer's coming `step()` for none: there is no gradient, and it changes nothing."""
        self._made.count -= 1

    def get_lr(self) -> list[float | Tensor]:
        """Rates of the groups as they are; torch asks for them in the constructor, which leaves them alone."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return all that was learnt: tensors, numbers, strings, and lists and dicts of them."""
        return {name: _copied(getattr(self, name)) for name in self._STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned.

        Raises: ValueError if it is the state of another kind of scheduler.
        """
        if state_dict.keys() != set(self._STATE):
            raise ValueError(
                f"{type(self).__name__}: this is the state of another scheduler. It must have {sorted(self._STATE)}, "
                f"got {sorted(state_dict)}. Build the scheduler that it was saved from."
            )
        for name in self._STATE:
            setattr(self, name, _copied(state_dict[name]))
        self._loss, self._num_observed, self._made.count = 0.0, 0, 0

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._made.listen(self.optimizer)  # a copied or unpickled optimizer has no hooks

    def take_decisions(self) -> list[Decision]:
        """Return the decisions since the last call, oldest first, and forget them."""
        taken, self.decisions = self.decisions, []
        return taken

    def _keep(self, decisions: list[Decision]) -> None:
        self.decisions += decisions
        del self.decisions[:-NUM_DECISIONS]

    def _note(self, loss: Tensor | float) -> None:
        """Add the loss of a batch to that of the coming update."""
        name = type(self).__name__
        if isinstance(loss, Tensor):
            if loss.numel() != 1:
                raise ValueError(
                    f"{name}: the loss of a batch is one number, got a tensor of shape {tuple(loss.shape)}. "
                    "Take its mean, as criterion(...).mean()."
                )
            # copied, since a CUDA graph writes the next one into the same memory; of half precision a sum loses digits
            loss = loss.detach().clone() if loss.dtype in _PRECISE else loss.detach().float()
            if loss.ndim:  # one number all the same, as of shape (1,)
                loss = loss.reshape(())
        else:
            try:
                loss = float(loss)
            except (TypeError, ValueError) as error:
                raise TypeError(f"{name}: the loss of a batch is a number or a tensor of one, got {loss!r}.") from error
        self._loss = self._loss + loss if self._num_observed else loss
        self._num_observed += 1

    @property
    def _reads_gradients(self) -> bool:
        """Whether gradients are measured in `observe`, while they are there."""
        return False

    def _read_gradients(self) -> None:
        """Measure those of the coming update, where it is time to."""
        return

    def _begin_anew(self) -> None:
        """Forget what must be of successive updates, where the coming ones do not follow upon those it heard of."""
        return

    def _go_on(self, loss: Tensor | float) -> None:
        """Count an update that was made, by whoever knows that it was, and decide where it is time to."""
        self._step_count += 1
        self.last_epoch += 1
        self._advance(loss)
        self._last_lr = [_copy(group["lr"]) for group in self.optimizer.param_groups]

    @abstractmethod
    def _advance(self, loss: Tensor | float) -> None:
        """Go on by the update that was just made.

        Args:
            loss: of that update, detached; 0 if it was not told and is not needed.
        """

    def _rates(self, first: int = 0) -> list[float]:
        """Rates of the groups from one on."""
        return [float(group["lr"]) for group in self.optimizer.param_groups[first:]]  # waits only for a tensor rate

    def _set_rates(self, rates: list[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)  # a graph or a compiled step holds this very tensor
            else:
                group["lr"] = rate

    def _check_it_ever_steps(self) -> None:
        self._num_idle += 1
        if not self._made.ever and self._num_idle >= NUM_STEPS_WITHOUT_AN_UPDATE:
            raise RuntimeError(
                f"{type(self).__name__}: step() was called {self._num_idle} times, and the optimizer has not made one "
                "update. Give it the optimizer whose step() is called, and call its step() first."
            )
        if self._num_idle >= NUM_STEPS_SINCE_AN_UPDATE:
            raise RuntimeError(
                f"{type(self).__name__}: step() was called {self._num_idle} times since the optimizer's last update "
                "that was seen by a hook. A CUDA graph calls no hooks: leave optimizer.step() out of it."
            )


class UpdateCount:
    """How many updates an optimizer made since it was last asked; knows no scheduler, which may go before it."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.count = 0
        self.ever = False
        self.listen(optimizer)

    def listen(self, optimizer: Optimizer) -> None:
        """Count the updates of this optimizer."""
        # that which accelerator.prepare made of it has no hooks, but the one it was made of
        getattr(optimizer, "optimizer", optimizer).register_step_post_hook(self._add)

    def _add(self, optimizer: Optimizer, *_: Any) -> None:
        # GradScaler calls step() of a fused optimizer all the same, and tells it what it found; it then changes nothing
        found_inf = getattr(optimizer, "found_inf", None)
        if found_inf is None or not bool(found_inf):  # waits for the device; of other optimizers GradScaler does so
            self.count += 1


def _copy(lr: float | Tensor) -> float | Tensor:
    return lr.clone() if isinstance(lr, Tensor) else lr


def _copied(value: Any) -> Any:
    """A copy that later changes of the original do not reach."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, dict) else value
