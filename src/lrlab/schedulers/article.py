"""The article's rule, exactly: decay once the mean change of the loss is small against the rate."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer

from lrlab.schedulers.base import SignalScheduler


class ArticleLR(SignalScheduler):
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
        if not multiplier > 0:
            raise ValueError(f"ArticleLR: multiplier must be > 0, got {multiplier}.")
        if not 0 < factor < 1:
            raise ValueError(f"ArticleLR: factor must be in (0, 1), got {factor}.")
        if not min_lr >= 0:
            raise ValueError(f"ArticleLR: min_lr must be >= 0, got {min_lr}.")
        self.multiplier = multiplier
        self.factor = factor
        self.min_lr = min_lr
        self.reset_optimizer = reset_optimizer
        self.num_losses = 0
        self.first_loss: Tensor | float = 0.0
        self.last_loss: Tensor | float = 0.0
        super().__init__(optimizer, check_every=check_every)

    def _listen(self, loss: Tensor | float) -> None:
        if self.num_losses == 0:
            # cloned: a captured graph writes every loss into the same memory
            self.first_loss = loss.clone() if isinstance(loss, Tensor) else loss
        self.last_loss = loss
        self.num_losses += 1

    def _decide(self) -> None:
        if self.num_losses < 2:
            return
        first, last = float(self.first_loss), float(self.last_loss)  # waits for the device
        rates = self._rates()
        mean_diff = (last - first) / (self.num_losses - 1)
        threshold = self.multiplier * max(rates)
        decays = abs(mean_diff) <= threshold
        num_losses = self.num_losses
        if decays:
            self._decay(self.factor, self.min_lr)
            self.num_losses = 0
            if self.reset_optimizer:
                self.optimizer.state.clear()
        self.decisions.append(
            {
                "step": self.last_epoch,
                "rule": "article",
                "mean_diff": mean_diff,
                "first_loss": first,
                "last_loss": last,
                "num_losses": num_losses,
                "threshold": threshold,
                "decision": "decay" if decays else "keep",
                "lr_before": rates,
                "lr_after": self._rates(),
            }
        )
