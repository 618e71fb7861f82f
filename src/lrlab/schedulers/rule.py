"""What every rule shares: it looks at its evidence now and then, moves the rates or keeps them, and says why."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from lrlab.schedulers.base import Decision, SignalScheduler


class RuleLR(SignalScheduler):
    """A scheduler that looks at its evidence every `check_every` updates, and then moves the rates or keeps them.

    Between two looks nothing waits for the device: losses stay there one by one, which is the least work an update, and
    come over in one piece at the look. Every look leaves a `Decision`.

    Where torch.distributed runs on several ranks, a look is at the mean of their losses, so that all decide alike.
    A stretch in which a loss is not finite is left out, and its look says so: it is no evidence of anything.

    A child decides in `_decide`. Its losses are those of the stretch since the last look; what it has to remember of
    those before, it keeps itself.

    Args:
        optimizer: its rates are read from, and written to, `param_groups[i]["lr"]`; nothing else holds them.
        check_every: updates between two looks, >= 1.
        factor: the rates are multiplied by it at a decay, in (0, 1).
        min_lr: floor of the rates at a decay, >= 0; a rate below it already is left alone.
    Raises: ValueError for values outside these ranges.
    """

    _STATE: ClassVar[tuple[str, ...]] = (*SignalScheduler._STATE, "_losses", "_num_losses")

    rule: ClassVar[str]
    """Name of the rule in its decisions."""

    timed_by: ClassVar[tuple[str, ...]] = ("check_every",)
    """Settings that say when it can decide for the first time."""

    def __init__(self, optimizer: Optimizer, *, check_every: int, factor: float, min_lr: float) -> None:
        self._require(
            check_every >= 1 and check_every == int(check_every),
            f"check_every must be a whole number >= 1, got {check_every}",
        )
        self._require(0 < factor < 1, f"factor must be in (0, 1), got {factor}")
        self._require(min_lr >= 0, f"min_lr must be >= 0, got {min_lr}")
        self.check_every = int(check_every)
        self.factor = factor
        self.min_lr = min_lr
        self._losses: Tensor | None = None  # (check_every,), since the last look, where the losses are
        self._latest: list[Tensor | float] = []  # those that are not in it yet
        self._num_losses = 0
        super().__init__(optimizer)

    @property
    def first_decision(self) -> int:
        """Updates before it can move a rate."""
        return self.check_every

    def replay(self, losses: Tensor) -> list[Decision]:
        """Take recorded losses, each as that of an update, and decide as if training: a million take seconds.

        Args:
            losses: oldest first, (N,), float64 on the CPU.
        Returns: what `take_decisions` would, however many there are.
        Raises: RuntimeError for a rule that does not decide from the loss alone.
        """
        if not self.needs_observe:
            raise RuntimeError(f"{type(self).__name__} does not decide from the loss: there is nothing to replay.")
        decisions: list[Decision] = []
        until_look = self.check_every - self._num_losses
        for stretch in (losses[:until_look], *losses[until_look:].split(self.check_every)):
            self.last_epoch += len(stretch)
            self._step_count += len(stretch)
            if len(stretch) == self.check_every:
                self._look(stretch)
                decisions += self.take_decisions()
                continue
            self._gather()
            self._make_room(stretch)[self._num_losses : self._num_losses + len(stretch)] = stretch
            self._num_losses += len(stretch)
            if self._num_losses == self.check_every:
                self._look(self._stretch())
                decisions += self.take_decisions()
        self._last_lr = list(self._rates())
        return decisions

    def state_dict(self) -> dict[str, Any]:
        """Return all that was learnt: tensors, numbers, strings, and lists and dicts of them."""
        self._gather()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned. Saved with another `check_every`, the stretch under way begins anew.

        What a rule looks at in a row begins anew with it: the losses of that stretch would be missing from it.
        """
        super().load_state_dict(state_dict)
        self._latest = []
        if not self._fits():
            self._begin_anew()

    def _fits(self) -> bool:
        """Whether what was loaded of the stretch under way is as it would be with these settings."""
        return self._num_losses < self.check_every and (self._losses is None or len(self._losses) == self.check_every)

    def _num_multiples(self, interval: int) -> int:
        """Updates of the stretch under way that are multiples of an interval, counted from the first of all."""
        return self.last_epoch // interval - (self.last_epoch - self._num_losses) // interval

    def _begin_anew(self) -> None:
        """Forget the stretch under way; a child that looks at several in a row forgets those before it too."""
        self._losses, self._latest, self._num_losses = None, [], 0

    def _advance(self, loss: Tensor | float) -> None:
        if self.needs_observe:
            self._latest.append(loss)
        self._num_losses += 1
        if self._num_losses == self.check_every:
            self._look(self._stretch())

    def _gather(self) -> None:
        """Bring the losses of the latest updates into the tensor that holds those before them."""
        if not self._latest:
            return
        latest, self._latest = self._latest, []
        room = self._make_room(latest[-1])
        first = self._num_losses - len(latest)
        room[first : self._num_losses] = torch.stack(
            [torch.as_tensor(loss, dtype=room.dtype, device=room.device) for loss in latest]
        )

    def _make_room(self, loss: Tensor | float) -> Tensor:
        device = loss.device if isinstance(loss, Tensor) else torch.device("cpu")
        if self._losses is None:
            is_exact = not isinstance(loss, Tensor) or loss.dtype == torch.float64
            dtype = torch.float64 if is_exact else torch.float32
            self._losses = torch.zeros(self.check_every, dtype=dtype, device=device)
        elif self._losses.device != device:  # loaded from elsewhere
            self._losses = self._losses.to(device)
        return self._losses

    def _look(self, losses: Tensor) -> None:
        before = self._rates()
        if math.isfinite(float(losses.sum())):  # one pass, and no copy
            evidence = self._decide(losses)
        else:
            evidence = {"num_not_finite": int((~torch.isfinite(losses)).sum()), "decision": "keep"}
        decision = {"step": self.last_epoch, "rule": self.rule, **evidence}
        self._keep([{**decision, "lr_before": before, "lr_after": self._rates()}])
        self._num_losses = 0

    def _stretch(self) -> Tensor:
        """The losses since the last look, their mean over the ranks; none for a rule that needs none."""
        self._gather()
        if self._losses is None:
            return torch.empty(0, dtype=torch.float64, device="cpu")
        losses = self._losses
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            weights = next(parameter for group in self.optimizer.param_groups for parameter in group["params"])
            losses = losses.to(weights.device, copy=True)  # NCCL takes none from the processor, where floats are kept
            dist.all_reduce(losses)
            losses /= dist.get_world_size()
        # the only sync; one after the other, since Apple's GPUs have no float64
        return losses.cpu().to(torch.float64, copy=losses.device.type == "cpu")

    @abstractmethod
    def _decide(self, losses: Tensor) -> dict[str, Any]:
        """Look at the evidence, move the rates or keep them, and return what was measured and decided.

        Args:
            losses: of the updates since the last look, oldest first, (check_every,), float64 on the CPU, all finite;
                empty for a rule that needs none.
        Returns: numbers and strings; among them "decision", one of "keep", "decay", "raise".
        """

    def _decay(self) -> None:
        """Multiply the rate of each group by `factor`, not below `min_lr`."""
        self._set_rates([min(rate, max(rate * self.factor, self.min_lr)) for rate in self._rates()])

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            raise ValueError(f"{type(self).__name__}: {what}.")
