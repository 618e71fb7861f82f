"""StationarityLR: the identity it rests on, and walks whose end is known."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from lrlab.schedulers import LayerwiseLR, StationarityLR
from lrlab.schedulers.stationarity import squared_norms


def quadratic(optimizer: Optimizer, step: int, *, noise: float = 1.0) -> None:
    """A noisy gradient of |x|^2 / 2."""
    generator = torch.Generator().manual_seed(step)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = parameter.detach() + noise * torch.randn(parameter.shape, generator=generator)


def far_away(make: Callable[..., Optimizer], **options: float) -> Optimizer:
    """Two groups of weights, ten standard deviations from where they are going."""
    weights = [[nn.Parameter(torch.full((50,), 10.0, dtype=torch.float64))] for _ in range(2)]
    return make([{"params": group} for group in weights], **options)


@pytest.mark.parametrize(
    "optimizer",
    [
        far_away(SGD, lr=0.05),
        far_away(SGD, lr=0.05, momentum=0.9, weight_decay=0.01),
        far_away(Adam, lr=0.05),
    ],
    ids=["SGD", "SGD with momentum", "Adam"],
)
def test_the_norms_tell_the_statistic_of_sasa(optimizer: Optimizer) -> None:
    scheduler = StationarityLR(optimizer, check_every=5, sample_every=5)
    told = []
    for step in range(1, 51):
        before = [group["params"][0].detach().clone() for group in optimizer.param_groups]
        quadratic(optimizer, step)
        optimizer.step()
        statistic = 0.0
        for group, weights in zip(optimizer.param_groups, before, strict=True):
            direction = (weights - group["params"][0].detach()) / group["lr"]
            # <x(k+1), d(k)> + lr / 2 |d(k)|^2, as SASA+ computes it at each update
            statistic += float(group["params"][0].detach() @ direction + group["lr"] / 2 * direction @ direction)
        told.append(statistic)
        scheduler.step()
    found = scheduler.state_dict()["_drifts"]
    expected = [sum(told[start : start + 5]) / 5 for start in range(5, 50, 5)]  # the first stretch has no beginning
    assert found == pytest.approx(expected[-len(found) :], rel=1e-9)
    assert len(found) == 5  # the latest half of nine


def test_within_rates_per_layer_each_group_counts_by_its_multiplier() -> None:
    optimizer = far_away(SGD, lr=0.05)
    for group, name in zip(optimizer.param_groups, ("stem", "head"), strict=True):
        group["name"] = name
    rule = StationarityLR(optimizer, check_every=5, sample_every=5)
    scheduler = LayerwiseLR(rule, {"stem": 0.5, "head": 2.0})
    told = []
    for step in range(1, 11):
        squares, rates = squared_norms(optimizer), [group["lr"] for group in optimizer.param_groups]
        quadratic(optimizer, step)
        optimizer.step()
        stem, head = (
            (squares - squared_norms(optimizer)) / (2 * squares.new_tensor(rates))
        ).tolist()  # D of each group
        told.append(0.5 * stem + 2.0 * head)
        scheduler.step()
    assert rates == pytest.approx([0.025, 0.1])
    assert rule.state_dict()["_drifts"] == pytest.approx([sum(told[5:]) / 5], rel=1e-9)


def decays(scheduler: StationarityLR, num_updates: int) -> list[int]:
    for step in range(1, num_updates + 1):
        quadratic(scheduler.optimizer, step)
        scheduler.optimizer.step()
        scheduler.step()
    return [decision["step"] for decision in scheduler.take_decisions() if decision["decision"] == "decay"]


def test_it_keeps_the_rate_on_the_way_and_decays_where_the_weights_wander() -> None:
    # at a rate of 0.002 the distance halves every 350 updates; after 2,900 it is no more than the noise leaves of it,
    # and the latest half of the stretches forgets the way after twice as many
    scheduler = StationarityLR(far_away(SGD, lr=0.002), check_every=100, sample_every=5, min_samples=40, min_lr=0.002)
    found = decays(scheduler, 8_000)
    assert found and found[0] > 2_900


def test_a_stretch_in_which_a_rate_changed_is_left_out() -> None:
    optimizer = far_away(SGD, lr=0.05)
    scheduler = StationarityLR(optimizer, check_every=10, sample_every=5)
    decays(scheduler, 20)
    optimizer.param_groups[1]["lr"] = 0.01
    decays(scheduler, 10)
    # six samples in all: one has no beginning, one saw the change
    assert scheduler.state_dict()["_num_drifts"] == 4


@pytest.mark.parametrize("resting", [{"lr": 0.0}, {"params": []}], ids=str)
def test_a_group_that_cannot_move_is_left_out(resting: dict[str, object]) -> None:
    def fired(others: list[dict[str, object]]) -> list[int]:
        weights = nn.Parameter(torch.full((50,), 10.0, dtype=torch.float64))
        optimizer = SGD([{"params": [weights]}, *others], lr=0.05)
        return decays(StationarityLR(optimizer, check_every=50, sample_every=5), 1_000)

    assert fired([{"params": [nn.Parameter(torch.zeros(3))]} | resting]) == fired([]) != []


def test_squared_norms_are_exact_for_float32_weights() -> None:
    weights = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    found = squared_norms(SGD([nn.Parameter(weights)], 0.1))
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(float(weights.double().square().sum()), rel=1e-13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_every": 0}, "sample_every must be >= 1, got 0"),
        ({"check_every": 15}, "check_every must be a multiple of sample_every = 10, got 15"),
        ({"min_samples": 19}, "min_samples must be >= 20, got 19"),
        ({"leak_ratio": 0}, "leak_ratio must be >= 1, got 0"),
        ({"level": 1.0}, r"level must be in \(0, 1\), got 1.0"),
    ],
)
def test_impossible_values_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StationarityLR(far_away(SGD, lr=0.1), **options)  # type: ignore[arg-type]


def test_a_stretch_that_began_anew_off_a_multiple_is_saved_and_loaded_whole() -> None:
    def make() -> tuple[SGD, StationarityLR]:
        optimizer = SGD([nn.Parameter(torch.tensor([10.0]))], lr=0.01)
        return optimizer, StationarityLR(optimizer, check_every=200, sample_every=10)

    def go(optimizer: SGD, rule: StationarityLR, num_updates: int) -> None:
        for _ in range(num_updates):
            optimizer.param_groups[0]["params"][0].grad = torch.ones(1)
            optimizer.step()
            rule.step()

    optimizer = SGD([nn.Parameter(torch.tensor([10.0]))], lr=0.01)
    other = StationarityLR(optimizer, check_every=100, sample_every=10)
    go(optimizer, other, 95)
    optimizer, rule = make()
    rule.load_state_dict(other.state_dict())  # its stretch begins anew, at 95
    go(optimizer, rule, 27)
    again, loaded = make()
    again.load_state_dict(optimizer.state_dict())
    with torch.no_grad():
        again.param_groups[0]["params"][0].copy_(optimizer.param_groups[0]["params"][0])
    loaded.load_state_dict(rule.state_dict())
    for one in ((optimizer, rule), (again, loaded)):
        go(*one, 400)
    assert [decision["step"] for decision in loaded.take_decisions()] == [295, 495]
    assert [decision["step"] for decision in rule.take_decisions()] == [295, 495]


def test_a_stretch_that_was_saved_with_another_length_is_forgotten_whole() -> None:
    def make(sample_every: int, check_every: int) -> tuple[SGD, StationarityLR]:
        optimizer = SGD([nn.Parameter(torch.tensor([10.0]))], lr=0.01)
        return optimizer, StationarityLR(optimizer, check_every=check_every, sample_every=sample_every)

    def go(optimizer: SGD, rule: StationarityLR, num_updates: int) -> None:
        (weights,) = optimizer.param_groups[0]["params"]
        for _ in range(num_updates):
            weights.grad = torch.ones(1)
            optimizer.step()
            rule.step()

    for sample_every, check_every in ((25, 100), (20, 200)):  # the latter holds as many samples as the saved one
        optimizer, saved = make(10, 100)
        go(optimizer, saved, 95)
        other, rule = make(sample_every, check_every)
        rule.load_state_dict(saved.state_dict())
        go(other, rule, 2 * sample_every)
        samples = rule.state_dict()["_samples"]
        # 95 updates were made: the next samples come at 100, after 5 of the other's, without a beginning, and then on
        before, after = (10 - 0.01 * made for made in (5, 5 + sample_every))
        assert samples[0].isnan()
        assert samples[1] == pytest.approx((before**2 - after**2) / (2 * 0.01 * sample_every), rel=1e-4)
