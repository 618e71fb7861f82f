"""A rule of one's own: decay once the average loss has not improved for some looks. Tried on recorded losses first.

python examples/05_write_a_scheduler.py
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from lrlab.schedulers import RuleLR
from lrlab.schedulers.simulate import calibrate


class AverageLR(RuleLR):
    """Decay after `patience` looks at which a moving average of the loss was not below its best."""

    rule = "average"
    _STATE = (*RuleLR._STATE, "_average", "_best", "_num_bad")  # what it learns: saved and loaded with it

    def __init__(self, optimizer: Optimizer, *, check_every: int = 50, patience: int = 4, memory: float = 0.8) -> None:
        self._require(patience >= 1, f"patience must be >= 1, got {patience}")
        self.patience = patience
        self.memory = memory
        self._average = math.nan
        self._best = math.inf
        self._num_bad = 0
        super().__init__(optimizer, check_every=check_every, factor=0.3, min_lr=1e-6)

    def _decide(self, losses: Tensor) -> dict[str, Any]:
        """Get the losses since the last look, all finite, on the CPU; say what was measured and decided."""
        mean = float(losses.mean())
        self._average = mean if math.isnan(self._average) else self.memory * self._average + (1 - self.memory) * mean
        self._num_bad = 0 if self._average < self._best else self._num_bad + 1
        self._best = min(self._best, self._average)
        decays = self._num_bad >= self.patience
        if decays:
            self._decay()
            self._num_bad = 0
        return {"average": self._average, "threshold": self._best, "decision": "decay" if decays else "keep"}


def main() -> None:
    """Replay recorded losses, then see how often it fires on losses whose truth is known."""
    steps = torch.arange(4000, dtype=torch.float64)
    recorded = 1 + 2 * (-steps / 500).exp() + 0.2 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    rule = AverageLR(Adam([nn.Parameter(torch.zeros(1))], lr=1e-3))
    decays = [decision for decision in rule.replay(recorded) if decision["decision"] == "decay"]
    print("decays at", ", ".join(f"{decision['step']} (to {decision['lr_after'][0]:.1e})" for decision in decays))

    found = calibrate(AverageLR, num_traces=100)
    print(f"on a flat loss it decays in {found.flat_share:.0%} of stretches of {found.window} updates")


if __name__ == "__main__":
    main()
