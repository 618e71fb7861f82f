"""What every closed-loop scheduler shares: it is told the loss of each update, and decides now and then."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Decision = dict[str, Any]
"""One look of a rule at its evidence: step, rule, what was measured, threshold, decision, lr_before, lr_after."""


class SignalScheduler(LRScheduler):
    """A learning-rate scheduler that listens to the training it steers.

    In a loop, tell it the loss between `backward()` and `optimizer.step()`, and step it afterwards:

        scheduler.observe(loss)     # a tensor on the device is fine: nothing is synchronised
        optimizer.step()
        scheduler.step()

    or, in one call after `optimizer.step()`, `scheduler.step(loss)`. A step without a loss raises, since the
    failure would otherwise be a silently constant rate.

    A child keeps what it needs of each loss in `_listen` and moves the rates in `_decide`, which is called every
    `check_every` updates and is the one place that may wait for the device.

    Args:
        optimizer: its rates are read from, and written to, `param_groups[i]["lr"]`; nothing else holds them.
        check_every: updates between two decisions, >= 1.
    """

    def __init__(self, optimizer: Optimizer, *, check_every: int) -> None:
        if check_every < 1:
            raise ValueError(f"{type(self).__name__}: check_every must be >= 1, got {check_every}.")
        self.check_every = check_every
        self.decisions: list[Decision] = []
        self._observed = False
        super().__init__(optimizer)

    def observe(self, loss: Tensor | float) -> None:
        """Take note of the loss of the coming update; call once for each."""
        if self._observed:
            raise RuntimeError(
                f"{type(self).__name__}: observe() was called twice for one update. "
                "Call scheduler.step() once after each optimizer.step()."
            )
        self._listen(loss.detach() if isinstance(loss, Tensor) else loss)
        self._observed = True

    def step(self, loss: Tensor | float | None = None) -> None:
        """Count one update and decide where it is time to. With a loss, observe it first."""
        if loss is not None:
            self.observe(loss)
        is_initial = self.last_epoch == -1  # torch calls step() once inside its constructor
        if not self._observed and not is_initial:
            raise RuntimeError(
                f"{type(self).__name__} was not told the loss of this update: call scheduler.observe(loss) after "
                "loss.backward() and before optimizer.step(), or scheduler.step(loss)."
            )
        self._observed = False
        super().step()

    def get_lr(self) -> list[float | Tensor]:
        """Rates of the groups after this update (called by `step`)."""
        if self.last_epoch > 0 and self.last_epoch % self.check_every == 0:
            self._decide()
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state: tensors, numbers, strings, and lists and dicts of them."""
        return {**super().state_dict(), "decisions": list(self.decisions)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        super().load_state_dict({**state_dict, "decisions": list(state_dict["decisions"])})

    def take_decisions(self) -> list[Decision]:
        """Return the decisions since the last call, oldest first, and forget them."""
        taken, self.decisions = self.decisions, []
        return taken

    @abstractmethod
    def _listen(self, loss: Tensor | float) -> None:
        """Keep what is needed of one detached loss, without waiting for the device."""

    @abstractmethod
    def _decide(self) -> None:
        """Look at the evidence, set the rates with `_decay`, and append a Decision."""

    def _rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]  # waits only for a tensor rate

    def _decay(self, factor: float, min_lr: float) -> None:
        """Set the rate of each group to max(lr * factor, min_lr)."""
        for group, lr in zip(self.optimizer.param_groups, self._rates(), strict=True):
            decayed = max(lr * factor, min_lr)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(decayed)  # a graph or a compiled step holds this very tensor
            else:
                group["lr"] = decayed
