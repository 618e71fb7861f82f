"""Batch normalisation of a batch that several ranks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lrlab.training.distributed import Ranks


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` by the statistics of the whole batch, of which each rank has an equal part.

    For processors, since `nn.SyncBatchNorm` is for GPUs alone. Mean and variance, and on the way back their gradients,
    go through one collective each. They are taken of the distance to the running mean, which all ranks share and which
    is near the mean: of two large numbers the difference would lose digits.

    In evaluation mode it is what it comes from. It has no second derivative.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """(B / ranks, C, H, W) -> the same, by the statistics of all B."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None, "convert() makes it of one that tracks them"
        assert self.running_var is not None
        shift = self.running_mean.clone()
        centred = input.to(shift.dtype) - shift[:, None, None]
        from torch.distributed.nn.functional import all_reduce  # some builds of PyTorch have no such module

        num_ranks = torch.distributed.get_world_size()
        moments = torch.stack([centred.mean((0, 2, 3)), centred.square().mean((0, 2, 3))]) / num_ranks
        mean, mean_square = all_reduce(moments)  # (C,) each
        variance = mean_square - mean.square()
        scale = self.weight * torch.rsqrt(variance + self.eps)
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            num_values = centred.numel() // centred.shape[1] * num_ranks
            self.running_mean.add_(share * mean)
            self.running_var.lerp_(variance * (num_values / (num_values - 1)), share)
        normalised: Tensor = centred * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]
        return normalised.to(input.dtype)


def synchronise(model: nn.Module, ranks: Ranks, *, device: torch.device) -> nn.Module:
    """Have a model's batch normalisations take the statistics of all ranks' parts of the batch.

    Args:
        model: whose `nn.BatchNorm2d` are replaced; parameters, buffers and their names stay.
        ranks: of one alone nothing is replaced.
        device: that it will be on.
    """
    if ranks.size == 1:
        return model
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SynchronisedBatchNorm2d
    return model
