"""Pure functions on lists of gradients; their results stay on the device, and nothing is synchronised."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def group_l2_norms(groups: Sequence[Sequence[Tensor]]) -> Tensor:
    """Euclidean length of each group of tensors, each group taken as one long vector: sqrt(sum g^2).

    One multi-tensor pass over the numbers, whatever the number of groups.

    Args:
        groups: for each group its tensors, of any shapes, on one device; a group may be empty, all may not.
    Returns: (len(groups),) float32, or float64 if any tensor is; an empty group has length 0.
    """
    tensors = [tensor for group in groups for tensor in group]
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
    squares = torch.stack(torch._foreach_norm(tensors, 2, dtype=dtype)).square()  # (number of tensors,)
    parts = squares.split([len(group) for group in groups])
    return torch.stack([part.sum() for part in parts]).sqrt()


def group_sizes(groups: Sequence[Sequence[Tensor]]) -> Tensor:
    """How many numbers each group of tensors holds: (len(groups),) float64 on the CPU."""
    return torch.tensor([sum(tensor.numel() for tensor in group) for group in groups], dtype=torch.float64)
