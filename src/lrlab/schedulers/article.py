"""The article's rule, exactly: decay once the mean change of the loss is small against the rate."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer

from lrlab.schedulers.rule import RuleLR


class ArticleLR(RuleLR):
    """Decay when |mean(diff(losses))| <= multiplier * lr, over the losses since the last decay.

    Every `check_every` updates, with L_1 ... L_n the losses since the last decay:

        |mean(L_2 - L_1, ..., L_n - L_(n-1))| = |L_n - L_1| / (n - 1) <= multiplier * lr
            ->  lr = max(lr * factor, min_lr); forget the losses; forget the optimizer's state

    The mean of the differences telescopes, so the rule rests on two single losses and is a timer in disguise: it
    fires once n - 1 >= |L_n - L_1| / (multiplier * lr). It is kept as the baseline that it is. At the floor it
    goes on firing, which resets the optimizer without moving the rate; so did the article's.

    With several parameter groups the largest rate stands for lr in the test, and every group decays.

    Args:
        optimizer: any; the article used Adam.
        multiplier: > 0; the article tried 0.5 and 0.2.
        check_every: updates between two looks, >= 1. At least two losses are needed, so a look at one does nothing.
        factor: the rates are multiplied by it, in (0, 1).
        min_lr: floor of the rates, >= 0.
        reset_optimizer: forget Adam's moments at a decay, as building the optimizer anew did.
    Raises: ValueError for values outside these ranges.
    Source: "Training ResNet-18", section "Training".
    """

    _STATE: ClassVar[tuple[str, ...]] = (*RuleLR._STATE, "_first_loss", "_num_since_decay")
    rule = "article"

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        multiplier: float = 0.5,
        check_every: int = 1000,
        factor: float = 0.1,
        min_lr: float = 1e-6,
        reset_optimizer: bool = True,
    ) -> None:
        self._require(multiplier > 0, f"multiplier must be > 0, got {multiplier}")
        self.multiplier = multiplier
        self.reset_optimizer = reset_optimizer
        self._first_loss = 0.0
        self._num_since_decay = 0
        super().__init__(optimizer, check_every=check_every, factor=factor, min_lr=min_lr)

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._num_since_decay = 0  # it divides by the updates between the first loss and the last, and did not hear all

    def _decide(self, losses: Tensor) -> dict[str, Any]:
        if self._num_since_decay == 0:
            self._first_loss = float(losses[0])
        self._num_since_decay += len(losses)
        num_losses, last_loss = self._num_since_decay, float(losses[-1])
        if num_losses < 2:
            return {"num_losses": num_losses, "decision": "keep"}
        mean_diff = (last_loss - self._first_loss) / (num_losses - 1)
        threshold = self.multiplier * max(self._rates())
        decays = abs(mean_diff) <= threshold
        if decays:
            self._decay()
            self._num_since_decay = 0
            if self.reset_optimizer:
                self.optimizer.state.clear()
        return {
            "mean_diff": mean_diff,
            "first_loss": self._first_loss,
            "last_loss": last_loss,
            "num_losses": num_losses,
            "threshold": threshold,
            "decision": "decay" if decays else "keep",
        }
