"""Batch normalisation of a batch that several ranks share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lrlab.training.distributed import Ranks


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` by the statistics of the whole batch, of which each rank has an equal part.

    For processors, since `nn.SyncBatchNorm` is for GPUs alone. Mean and variance, and on the way back their gradients,
    go through one collective each; the rest are the kernels of PyTorch's own. In evaluation mode it is what it comes
    from. It has no second derivative.
    """

    ranks: Ranks

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """(B / ranks, C, H, W) -> the same, by the statistics of all B."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None, "synchronise() makes it of one that tracks them"
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        images = input.to(self.running_mean.dtype)
        normalised, mean, variance = _Normalised.apply(  # type: ignore[no-untyped-call]  # as torch has it
            images, self.weight, self.bias, self.running_mean.clone(), self.eps, self.ranks
        )
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        num_values = images.numel() // images.shape[1] * self.ranks.size
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (num_values / (num_values - 1)), share)
        found: Tensor = normalised.to(input.dtype)
        return found


class _Normalised(Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, with mean and variance over the ranks' parts of the batch."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, shift: Tensor, eps: float, ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Shift, (C,): near the mean and the same on all ranks; the difference of two large numbers loses digits."""
        mean, variance = torch.batch_norm_update_stats(images, None, None, 0.0)
        distance = mean - shift
        distance, mean_square = ranks.total(torch.stack([distance, variance + distance.square()]) / ranks.size)
        mean, variance = shift + distance, (mean_square - distance.square()).clamp_min(0)
        ctx.save_for_backward(images, weight, mean, variance)
        ctx.eps, ctx.ranks = eps, ranks
        normalised = torch.native_batch_norm(images, weight, bias, mean, variance, False, 0.0, eps)[0]
        ctx.mark_non_differentiable(mean, variance)
        return normalised, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """As if mean and variance were given, less what flows through them."""
        images, weight, mean, variance = ctx.saved_tensors
        scale = torch.rsqrt(variance + ctx.eps)
        of_images, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, images, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        num_values = images.numel() // images.shape[1] * ctx.ranks.size
        # of_bias is the sum of the gradient, of_weight that of the gradient times the normalised images
        sum_, sum_of_products = ctx.ranks.total(torch.stack([of_bias, of_weight])) / num_values
        factor = weight * scale.square() * sum_of_products
        of_images.addcmul_(images, factor[:, None, None], value=-1)
        of_images.sub_((weight * scale * sum_ - factor * mean)[:, None, None])
        return of_images, of_weight, of_bias, None, None, None


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
            module.__class__ = SynchronisedBatchNorm2d  # with the same parameters and buffers, under the same name
            vars(module)["ranks"] = ranks
    return model
