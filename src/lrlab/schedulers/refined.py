"""A schedule from the gradients of an earlier run: small where they were large, and zero at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lrlab import schedules

Norm = Literal["l1", "l2"]

NUM_STRETCHES = 2_000
"""Norms are first brought down to the medians of at most so many stretches: the filter below needs no more."""


class RefinedLR(LambdaLR):
    """The refined schedule of an earlier run, stretched or squeezed to the length of this one.

    Args:
        optimizer: any; its rates are the peaks.
        multipliers: from `refined_multipliers`, evenly spaced over the run.
        total_steps: updates of this run, >= 1.
    Raises: ValueError for fewer than two multipliers, or one that is negative or not finite.
    """

    def __init__(self, optimizer: Optimizer, multipliers: Sequence[float], *, total_steps: int) -> None:
        super().__init__(optimizer, schedules.table(multipliers, total_steps=total_steps))


def refined_multipliers(norms: Tensor, *, norm: Norm, smoothing: float = 0.1, num_points: int = 201) -> list[float]:
    """Multipliers of the rate, 1 at the highest, that the gradients of a run call for.

    With G_t the norm of the gradient at update t of T, after a median filter of width smoothing * T, and the weight
    w_t = G_t^-2 of the L2 norm, for SGD, or G_t^-1 of the L1 norm, for Adam:

        multiplier_t = w_t * (w_(t+1) + ... + w_T) / its largest value

    It minimises the bound on the loss of the last iterate that the source derives. Constant gradients give a line to
    zero; gradients that are large at the start give a warm-up, such that fall towards the end a slower end.

    Args:
        norms: of the whole gradient at the updates of a run, oldest first, (T,), T >= 10, positive and finite.
        norm: which they are.
        smoothing: width of the filter, as a share of the run, in (0, 0.5).
        num_points: of the result, >= 2.
    Returns: num_points numbers in [0, 1], evenly spaced from the first update to the last; the last is 0.
    Raises: ValueError for values outside these ranges.
    Source: Defazio, Cutkosky, Mehta and Mishchenko, 2023, arXiv:2310.07831, algorithms 1 and 2; the filter's edges as
        in its authors' code: the first value goes on before the first, the last ones are mirrored behind the last.
    """
    if norms.dim() != 1 or len(norms) < 10 or not bool((norms.isfinite() & (norms > 0)).all()):
        raise ValueError("refined_multipliers: norms must be at least 10 positive finite numbers in one dimension.")
    if not (0 < smoothing < 0.5 and num_points >= 2):
        raise ValueError(
            f"refined_multipliers: smoothing must be in (0, 0.5) and num_points >= 2, got {smoothing} and {num_points}."
        )
    stretches = norms.double().cpu().tensor_split(min(len(norms), NUM_STRETCHES))
    medians = torch.stack([stretch.quantile(0.5) for stretch in stretches])
    smooth = median_filter(medians, width=2 * (int(smoothing * len(medians)) // 2) + 1)
    weights = smooth ** (-2.0 if norm == "l2" else -1.0)
    tails = weights.flip(0).cumsum(0).flip(0) - weights  # of the updates after each
    tails[-1] = 0.0  # whatever rounding leaves of it
    multipliers = weights * tails
    table = schedules.table((multipliers / multipliers.max()).tolist(), total_steps=num_points)
    return [table(index) for index in range(num_points)]


def median_filter(values: Tensor, *, width: int) -> Tensor:
    """Median of the `width` values around each; beyond the edges the first is repeated and the last ones are mirrored.

    Args:
        values: (N,).
        width: odd, below 2 N.
    """
    half = width // 2
    padded = torch.cat([values[:1].expand(half), values, values[-half - 1 : -1].flip(0)])
    return padded.unfold(0, width, 1).median(1).values
