"""A loss or a gradient that is not finite stops the training before the update, and is found where it begins."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrlab.data import Batch
from lrlab.models import layer_groups
from lrlab.training import DivergedError, Engine, Network, train

STEP = 3


class Spoilt(torch.autograd.Function):
    """The identity, whose gradient has one number replaced."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: float) -> Tensor:  # type: ignore[override]
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        gradient = gradient.clone()
        gradient.view(-1)[0] = ctx.value
        return gradient, None


class Three(nn.Module):
    """Three layers, and something to be done between the second and the third."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.between: Callable[[Tensor], Tensor] = lambda x: x

    def forward(self, images: Tensor) -> Tensor:
        return self.third(self.between(self.second(self.first(images.flatten(1)))))


def batch(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    return Batch(step, 1, torch.randn(8, 1, 2, 2, generator=generator), torch.arange(8) % 3)


def run(model: Three, spoil: Callable[[], None]) -> tuple[DivergedError, list[Tensor]]:
    """Train with something spoilt from STEP on; return the error, and the weights before and after it."""
    network = Network(model, layer_groups(model), engine=Engine(torch.device("cpu"), "fp32"))
    whole = [parameter for group in network.groups.values() for parameter in group]
    optimizer = torch.optim.SGD([{"params": whole, "name": "all"}], lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    before: list[Tensor] = []
    with pytest.raises(DivergedError) as caught:
        for update in train(network, batch, optimizer, scheduler, num_steps=10):
            if update.step == STEP - 1:
                before = [parameter.detach().clone() for parameter in whole]
                spoil()
    assert before, "it was stopped too early"
    assert all(torch.equal(one, other) for one, other in zip(before, whole, strict=True)), "the update was made"
    return caught.value, before


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_named_by_the_group_nearest_to_the_output(value: float) -> None:
    model = Three()

    def spoil() -> None:
        model.between = lambda x: Spoilt.apply(x, value)  # finite in the third layer, not in the second and first

    error, _ = run(model, spoil)
    assert (error.step, error.group, error.exit_code) == (STEP, "second", 4)
    assert str(error) == (
        "diverged: the gradient of update 3 is not finite, first in second. Lower optimizer.lr, or look at the data."
    )


def test_a_loss_that_is_not_finite_is_named_by_the_group_whose_output_is_not() -> None:
    model = Three()

    def spoil() -> None:
        with torch.no_grad():
            model.second.register_forward_hook(lambda *found: found[2] * math.inf)

    error, _ = run(model, spoil)
    assert (error.step, error.group) == (STEP, "second")
    assert "the loss of update 3 is nan, first in the output of second" in str(error)


def test_a_large_gradient_is_no_divergence_though_its_square_is() -> None:
    model = Three()
    network = Network(model, layer_groups(model), engine=Engine(torch.device("cpu"), "fp32"))
    loss = model.third.weight.sum() * 0 + 1.0
    network.backward(network.logits(batch(1).images).sum())
    with torch.no_grad():
        model.first.weight.grad.fill_(1e25)  # type: ignore[union-attr]
    assert not torch.isfinite(network.gradient_sums()).all()
    network.check_finite(batch(1), loss.detach())
