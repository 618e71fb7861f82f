"""What every scheduler that listens has in common, shown on each of them."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

from lrlab.schedulers import ArticleLR, PlateauLR, SignalScheduler

SCHEDULERS: dict[str, Callable[[Optimizer], SignalScheduler]] = {
    "article": lambda optimizer: ArticleLR(optimizer, multiplier=4.0, check_every=5),
    "plateau": lambda optimizer: PlateauLR(optimizer, check_every=5, patience=1, factor=0.5),
}

every_scheduler = pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)


def make_optimizer(lr: float | torch.Tensor = 0.1) -> SGD:
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    return SGD([parameter], lr)


def noisy_losses(count: int) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(0)) + 0.5


def rates(scheduler: SignalScheduler, losses: torch.Tensor) -> list[float]:
    seen = []
    for loss in losses:
        scheduler.optimizer.step()
        scheduler.step(loss)
        seen.append(float(scheduler.optimizer.param_groups[0]["lr"]))
    return seen


@every_scheduler
def test_a_step_without_a_loss_raises(make: Callable[[Optimizer], SignalScheduler]) -> None:
    scheduler = make(make_optimizer())
    scheduler.optimizer.step()
    with pytest.raises(RuntimeError, match="was not told the loss of this update: call scheduler.observe"):
        scheduler.step()


@every_scheduler
def test_two_losses_for_one_update_raise(make: Callable[[Optimizer], SignalScheduler]) -> None:
    scheduler = make(make_optimizer())
    scheduler.observe(1.0)
    with pytest.raises(RuntimeError, match="called twice for one update"):
        scheduler.observe(1.0)


@every_scheduler
def test_the_constructor_leaves_the_rate_alone(make: Callable[[Optimizer], SignalScheduler]) -> None:
    scheduler = make(make_optimizer(0.3))
    assert scheduler.optimizer.param_groups[0]["lr"] == 0.3
    assert scheduler.get_last_lr() == [0.3]


@every_scheduler
def test_observing_then_stepping_is_stepping_with_the_loss(make: Callable[[Optimizer], SignalScheduler]) -> None:
    losses = noisy_losses(60)
    other = make(make_optimizer())
    for loss in losses:
        other.observe(loss)
        other.optimizer.step()
        other.step()
    one = make(make_optimizer())
    rates(one, losses)
    assert one.take_decisions() == other.take_decisions()


@every_scheduler
def test_a_tensor_rate_is_written_in_place(make: Callable[[Optimizer], SignalScheduler]) -> None:
    rate = torch.tensor(0.1, dtype=torch.float64)
    as_tensor, as_number = make(make_optimizer(rate)), make(make_optimizer(0.1))
    losses = noisy_losses(60)
    assert rates(as_tensor, losses) == pytest.approx(rates(as_number, losses))
    assert as_tensor.optimizer.param_groups[0]["lr"] is rate
    assert float(rate) < 0.1


@every_scheduler
@pytest.mark.parametrize("stop", [1, 5, 7, 23, 40])
def test_saved_and_loaded_at_any_update_it_goes_on_as_if_never_stopped(
    make: Callable[[Optimizer], SignalScheduler], stop: int
) -> None:
    losses = noisy_losses(60)
    whole = make(make_optimizer())
    expected = rates(whole, losses)

    first = make(make_optimizer())
    head = rates(first, losses[:stop])
    buffer = io.BytesIO()
    torch.save({"scheduler": first.state_dict(), "optimizer": first.optimizer.state_dict()}, buffer)
    buffer.seek(0)
    saved: dict[str, Any] = torch.load(buffer, weights_only=True)

    second = make(make_optimizer())
    second.optimizer.load_state_dict(saved["optimizer"])
    second.load_state_dict(saved["scheduler"])
    assert head + rates(second, losses[stop:]) == expected
    assert second.take_decisions() == whole.take_decisions()
    assert expected[-1] < 0.1  # it did decide something


@every_scheduler
def test_a_saved_state_does_not_change_afterwards(make: Callable[[Optimizer], SignalScheduler]) -> None:
    scheduler = make(make_optimizer())
    rates(scheduler, noisy_losses(10))
    state = scheduler.state_dict()
    other = make(make_optimizer())
    other.load_state_dict(state)
    rates(scheduler, noisy_losses(10))
    assert len(state["decisions"]) == len(other.decisions) == 2


@every_scheduler
def test_the_loss_keeps_no_graph_alive(make: Callable[[Optimizer], SignalScheduler]) -> None:
    scheduler = make(make_optimizer())
    scheduler.observe(torch.ones(1, requires_grad=True).sum())
    kept = [value for value in vars(scheduler).values() if isinstance(value, torch.Tensor)]
    assert kept
    assert not any(value.requires_grad for value in kept)


def test_plateau_is_torchs_rule_on_the_mean_of_each_stretch() -> None:
    losses = noisy_losses(200)
    ours = make_optimizer()
    theirs = make_optimizer()
    scheduler = PlateauLR(ours, check_every=10, patience=2, factor=0.5)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, patience=2, factor=0.5)
    for stretch in losses.view(20, 10):
        rates(scheduler, stretch)
        reference.step(stretch.double().mean().item())
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
    assert theirs.param_groups[0]["lr"] < 0.1
