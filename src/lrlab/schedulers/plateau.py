"""torch's ReduceLROnPlateau, fed by the training loss itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lrlab.schedulers.base import SignalScheduler


class PlateauLR(SignalScheduler):
    """ReduceLROnPlateau on the mean training loss of every `check_every` updates.

    torch's rule is left as it is; a single update's loss is far too noisy for it, so it sees the mean of each
    stretch instead, and its `patience` and `cooldown` count stretches.

    Args:
        optimizer: any.
        check_every: updates in one stretch, >= 1.
        options: as for torch.optim.lr_scheduler.ReduceLROnPlateau.
    """

    def __init__(self, optimizer: Optimizer, *, check_every: int = 1000, **options: Any) -> None:
        self._plateau = ReduceLROnPlateau(optimizer, **options)
        self._sum: Tensor | float = 0.0
        super().__init__(optimizer, check_every=check_every)

    def _listen(self, loss: Tensor | float) -> None:
        self._sum = self._sum + (loss.to(torch.float64) if isinstance(loss, Tensor) else loss)

    def _decide(self) -> None:
        mean_loss = float(self._sum) / self.check_every  # the only sync
        self._sum = 0.0
        rates = self._rates()
        best, bad = self._plateau.best, self._plateau.num_bad_epochs
        self._plateau.step(mean_loss)
        after = self._rates()
        self.decisions.append(
            {
                "step": self.last_epoch,
                "rule": "plateau",
                "mean_loss": mean_loss,
                "best": best,
                "num_bad": bad,
                "threshold": self._plateau.patience,
                "decision": "decay" if after != rates else "keep",
                "lr_before": rates,
                "lr_after": after,
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, the inner rule's included."""
        state = super().state_dict()
        return {**state, "_plateau": self._plateau.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        plateau = self._plateau
        plateau.load_state_dict(state_dict["_plateau"])
        super().load_state_dict({**state_dict, "_plateau": plateau})
