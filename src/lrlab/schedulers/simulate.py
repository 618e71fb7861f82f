"""What a rule does on losses whose truth is known: how often it fires on a flat loss, how soon on a plateau."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lrlab.schedulers.rule import RuleLR

FLAT_WINDOWS = 10
"""Length of a trace that is flat."""
FALL_WINDOWS, PLATEAU_WINDOWS = 5, 20
"""Length of the fall to a plateau, and of the plateau."""
NUM_AT_ONCE = 100
"""Traces that are made together, which is faster, and not more, which would fill the memory."""


@dataclass(frozen=True)
class Noise:
    """How losses scatter about their mean."""

    std: float = 0.3
    """Standard deviation, >= 0, where the mean loss of a plateau is 1."""
    correlation: float = 0.0
    """From one update to the next, in [0, 1): a first-order autoregression."""

    def __post_init__(self) -> None:
        if not (self.std >= 0 and 0 <= self.correlation < 1):
            raise ValueError(
                f"Noise: std must be >= 0 and correlation in [0, 1), got {self.std} and {self.correlation}."
            )

    def draw(self, num_traces: int, length: int, generator: torch.Generator) -> Tensor:
        """Noise of so many traces, each stationary from its first value: (num_traces, length) float64."""
        innovations = torch.randn(length, num_traces, generator=generator, dtype=torch.float64)
        innovations[1:] *= math.sqrt(1 - self.correlation**2)
        if self.correlation:
            for index in range(1, length):
                innovations[index].add_(innovations[index - 1], alpha=self.correlation)
        return self.std * innovations.T.contiguous()


@dataclass(frozen=True)
class RuleCalibration:
    """What a rule did on simulated losses."""

    window: int
    """Updates before the rule can decide for the first time: the unit of the figures below."""
    num_traces: int
    """Of each kind."""
    flat_windows: int
    """Length of a flat loss."""
    plateau_windows: int
    """Length of a plateau."""
    flat_share: float
    """Share of the windows of a flat loss in which it decayed."""
    early_share: float
    """Share of the falling losses on which it decayed before the plateau."""
    never_share: float
    """Share on which it did not decay within the plateau, those that were early left out."""
    delays: tuple[float, float, float] | None
    """Quartiles of the windows from the beginning of the plateau to the first decay; None if there was none."""


def calibrate(
    make: Callable[[Optimizer], RuleLR],
    *,
    lr: float = 1e-3,
    noise: Noise | None = None,
    num_traces: int = 1000,
    seed: int = 0,
) -> RuleCalibration:
    """Play a rule over simulated losses.

    The flat ones have a mean of 1 for 10 windows. The others fall from 3 to 1 within 5 windows, by a fifth in each, and
    stay there for 20; noise is added to all.

    Args:
        make: the rule, on an optimizer with one rate.
        lr: that rate, which the article's rule looks at.
        noise: of independent losses, of 0.3 on a mean of 1, where it is None.
        num_traces: of each kind, >= 1.
        seed: of the noise.
    Raises: RuntimeError for a rule that does not decide from the loss.
    """
    noise = noise or Noise()
    window = make(_optimizer(lr)).first_decision
    generator = torch.Generator().manual_seed(seed)
    num_fired = sum(
        len({(step - 1) // window for step in _decays(make(_optimizer(lr)), trace)})
        for trace in _traces(torch.ones(FLAT_WINDOWS * window), noise, num_traces, generator)
    )
    start = FALL_WINDOWS * window
    fall = torch.cat([torch.logspace(math.log10(3.0), 0.0, start), torch.ones(PLATEAU_WINDOWS * window)])
    firsts = [
        next(iter(_decays(make(_optimizer(lr)), trace)), None) for trace in _traces(fall, noise, num_traces, generator)
    ]
    num_early = sum(first is not None and first <= start for first in firsts)
    delays = [(first - start) / window for first in firsts if first is not None and first > start]
    return RuleCalibration(
        window=window,
        num_traces=num_traces,
        flat_windows=FLAT_WINDOWS,
        plateau_windows=PLATEAU_WINDOWS,
        flat_share=num_fired / (num_traces * FLAT_WINDOWS),
        early_share=num_early / num_traces,
        never_share=firsts.count(None) / max(1, num_traces - num_early),
        delays=_quartiles(delays) if delays else None,
    )


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    shares = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    low, median, high = torch.tensor(values, dtype=torch.float64).quantile(shares).tolist()
    return low, median, high


def _traces(mean: Tensor, noise: Noise, num_traces: int, generator: torch.Generator) -> Iterator[Tensor]:
    for start in range(0, num_traces, NUM_AT_ONCE):
        yield from mean.double() + noise.draw(min(NUM_AT_ONCE, num_traces - start), len(mean), generator)


def _decays(rule: RuleLR, losses: Tensor) -> list[int]:
    """Updates after which a rule decayed, be it at its floor."""
    return [decision["step"] for decision in rule.replay(losses) if decision["decision"] == "decay"]


def _optimizer(lr: float) -> Optimizer:
    return SGD([nn.Parameter(torch.zeros(1))], lr)
