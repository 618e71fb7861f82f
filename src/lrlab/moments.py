"""Adam's moments, as an optimizer keeps them: whether they are there to be read, and their sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adamax, Optimizer, SparseAdam

from lrlab.gradients import PIECE, group_norms

KEYS = ("step", "exp_avg", "exp_avg_sq")
"""What Adam, AdamW, NAdam and RAdam hold of each parameter that they have moved."""


def moment_sums(states: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
    """Sum of the squares of the first moment, and sum of the second, of each parameter; nothing is synchronised.

    Args:
        states: the optimizer's, of one parameter each, on one device; at least one.
    Returns: (len(states),) each, float32, or float64 if a moment is.
    """
    firsts = [state["exp_avg"] for state in states]
    if all(one.numel() <= PIECE and one.dtype == torch.float32 for one in firsts):  # as is mostly so, in one call
        squares = torch.stack(torch._foreach_norm(firsts, 2)).square()
    else:
        squares = group_norms([[one] for one in firsts]).square()
    # by `sum`: the 1-norm of 39 million float32 numbers is 14 % too small on a processor
    seconds = [state["exp_avg_sq"] for state in states]
    sums = [one.sum(dtype=torch.promote_types(one.dtype, torch.float32)) for one in seconds]
    return squares, torch.stack(sums)


def check_moments(optimizer: Optimizer, *, reader: str) -> None:
    """Check that an optimizer keeps Adam's two moments, and averages the first.

    One of another kind is known for sure by its state alone, which comes with its first update.

    Args:
        optimizer: torch's, or another that keeps its moments in the same way.
        reader: name of what reads them, for the message.
    Raises: ValueError.
    """
    # of torch's that have betas: Adamax keeps no second moment, and SparseAdam's are of the rows that were touched
    lacks_them = isinstance(optimizer, Adamax | SparseAdam) or not all("betas" in one for one in optimizer.param_groups)
    held = [state for state in optimizer.state.values() if state]
    if lacks_them or not all(key in state for state in held for key in KEYS):
        raise ValueError(
            f"{reader}: it needs Adam's moments, which {type(optimizer).__name__} does not keep. Use Adam, AdamW, "
            "NAdam or RAdam."
        )
    for group in optimizer.param_groups:
        beta1 = float(group["betas"][0])
        if not 0 < beta1 < 1:
            raise ValueError(
                f"{reader}: beta1 must be in (0, 1), got {beta1:g}. Without averaging, the first moment is the last "
                "gradient, which says nothing about the signal."
            )
