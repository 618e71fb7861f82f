"""torch's ReduceLROnPlateau, fed by the training loss itself."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lrlab.schedulers.rule import RuleLR


class PlateauLR(RuleLR):
    """ReduceLROnPlateau on the mean training loss of every `check_every` updates.

    torch's rule is left as it is; a single update's loss is far too noisy for it, so it sees the mean of each
    stretch instead, and its `patience` and `cooldown` count stretches. Unlike torch's own it can be saved and loaded
    without its settings, decides alike on every rank, and has a warm-up and a cooldown by `PhasesLR`.

    At its floor it goes on firing, which moves no rate.

    It compares with the best mean so far, so after a spike it takes the whole way back for a plateau
    (pytorch/pytorch#30873), and noise for one as well; `SlopeLR` does neither.

    Args:
        optimizer: any.
        check_every: updates in one stretch, >= 1.
        factor: the rates are multiplied by it, in (0, 1).
        patience: stretches without progress that are let pass, >= 0: it decays at the next one.
        threshold: progress is a mean below best * (1 - threshold), or below best - threshold.
        threshold_mode: "rel" for the first of these, "abs" for the second.
        cooldown: stretches after a decay in which nothing is counted, >= 0.
        min_lr: floor of the rates, >= 0.
    Raises: ValueError for values outside these ranges.
    Source: torch.optim.lr_scheduler.ReduceLROnPlateau.
    """

    _STATE: ClassVar[tuple[str, ...]] = (*RuleLR._STATE, "_progress")
    rule = "plateau"
    timed_by = ("check_every", "patience")

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        check_every: int = 1000,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        self._require(patience >= 0, f"patience must be >= 0, got {patience}")
        self._require(cooldown >= 0, f"cooldown must be >= 0, got {cooldown}")
        self._require(threshold_mode in ("rel", "abs"), f'threshold_mode must be "rel" or "abs", got {threshold_mode}')
        self._plateau = _Plateau(
            optimizer,
            factor=factor,
            patience=patience,
            threshold=threshold,
            threshold_mode=threshold_mode,
            cooldown=cooldown,
            min_lr=min_lr,
        )
        super().__init__(optimizer, check_every=check_every, factor=factor, min_lr=min_lr)

    @property
    def first_decision(self) -> int:
        """Updates until the first stretch, which is the best, was followed by enough bad ones."""
        return (self._plateau.patience + 2) * self.check_every

    @property
    def _progress(self) -> dict[str, Any]:
        """What torch's rule has learnt: the best mean, and what it has counted."""
        names = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
        return {name: getattr(self._plateau, name) for name in names}

    @_progress.setter
    def _progress(self, learnt: dict[str, Any]) -> None:
        vars(self._plateau).update(learnt)

    def _decide(self, losses: Tensor) -> dict[str, Any]:
        mean_loss = float(losses.mean())
        before, best, num_bad = self._rates(), self._plateau.best, self._plateau.num_bad_epochs
        self._plateau.fired = False
        self._plateau.step(mean_loss)
        if self._rates() != before:  # once more: torch decays a tensor that the groups share once for each
            self._set_rates(before)
            self._decay()
        return {
            "mean_loss": mean_loss,
            "best": best,
            "num_bad": num_bad,
            "threshold": self._plateau.patience,
            "decision": "decay" if self._plateau.fired else "keep",
        }


class _Plateau(ReduceLROnPlateau):
    """torch's rule, which says whether it fired: at its floor, and below `eps`, it moves no rate."""

    fired = False

    def _reduce_lr(self, epoch: int) -> None:
        self.fired = True
        super()._reduce_lr(epoch)
