"""LayerwiseLR: what each group gets is what its scheduler says times its multiplier, whatever the scheduler."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR, LRScheduler, OneCycleLR

from lrlab import schedules
from lrlab.schedulers import ArticleLR, LayerwiseLR, PhasesLR, SignalScheduler, SlopeLR, WeakGradients

NAMES = ("stem", "layer1", "layer2", "linear")


def sgd(lr: float = 0.1, **keys: float) -> SGD:
    groups = [{"params": [nn.Parameter(torch.zeros(4))], "name": name, "lr": lr, **keys} for name in NAMES]
    return SGD(groups)


def play(scheduler: LRScheduler, num_updates: int) -> list[list[float]]:
    """Rates that each update was made with."""
    seen = []
    for _ in range(num_updates):
        seen.append([group["lr"] for group in scheduler.optimizer.param_groups])
        if isinstance(scheduler, SignalScheduler):
            scheduler.observe(1.0)
        scheduler.optimizer.step()
        scheduler.step()
    return seen


SCHEDULERS: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "constant": lambda optimizer: LambdaLR(optimizer, schedules.constant()),
    "exponential": lambda optimizer: ExponentialLR(optimizer, 0.9),
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, T_max=20),
    "one cycle": lambda optimizer: OneCycleLR(optimizer, max_lr=0.3, total_steps=40, cycle_momentum=False),
    "article": lambda optimizer: ArticleLR(optimizer, multiplier=0.5, check_every=7, factor=0.5),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_any_scheduler_goes_on_as_if_there_were_no_multipliers(name: str) -> None:
    alone = play(SCHEDULERS[name](sgd()), 30)
    falling = schedules.linear(30, start=3.0, end=1.0)
    found = play(LayerwiseLR(SCHEDULERS[name](sgd()), {"stem": 0.1, "layer.": falling}), 30)
    for index, (rates, expected) in enumerate(zip(found, alone, strict=True)):
        multipliers = [0.1, falling(index), falling(index), 1.0]
        assert rates == pytest.approx([rate * by for rate, by in zip(expected, multipliers, strict=True)])


def test_a_key_lr_scale_of_a_group_is_honoured() -> None:
    optimizer = sgd()
    optimizer.param_groups[1]["lr_scale"] = 0.5  # as timm's param_groups_layer_decay writes it
    optimizer.param_groups[2]["lr_scale"] = 0.25
    rates = play(LayerwiseLR(LambdaLR(optimizer, schedules.constant()), {"layer2": 2.0}), 2)
    assert rates == [pytest.approx([0.1, 0.05, 0.05, 0.1])] * 2


def test_decisions_tell_the_schedulers_own_rates() -> None:
    scheduler = LayerwiseLR(ArticleLR(sgd(), check_every=2, factor=0.5), {"stem": 3.0})
    play(scheduler, 2)
    (decision,) = scheduler.take_decisions()
    assert (decision["lr_before"], decision["lr_after"]) == ([0.1] * 4, [0.05] * 4)
    assert [group["lr"] for group in scheduler.optimizer.param_groups] == pytest.approx([0.15, 0.05, 0.05, 0.05])


def measured(
    weak: WeakGradients, sizes: list[float], *, num_updates: int, decay: float = 1.0
) -> tuple[LayerwiseLR, list[list[float]]]:
    """Train with gradients of these sizes in the groups, all of which are measured."""
    optimizer = sgd()
    scheduler = LayerwiseLR(ExponentialLR(optimizer, decay), {".*": weak})
    seen = []
    for _ in range(num_updates):
        seen.append([group["lr"] for group in optimizer.param_groups])
        for group, size in zip(optimizer.param_groups, sizes, strict=True):
            group["params"][0].grad = size * torch.tensor([1.0, -1.0, 1.0, -1.0])
        scheduler.observe(1.0)
        optimizer.step()
        scheduler.step()
    return scheduler, seen


def test_where_gradients_are_weak_the_rate_is_high() -> None:
    sizes = [0.01, 0.1, 1.0, 10.0]
    _, seen = measured(WeakGradients(strength=0.5, every=2, limit=100.0), sizes, num_updates=3)
    assert seen[:2] == [[0.1] * 4] * 2  # nothing is measured yet
    # their geometric mean is 10 ** -0.5
    assert seen[2] == pytest.approx([0.1 * (10**-0.5 / size) ** 0.5 for size in sizes])
    assert math.prod(rate / 0.1 for rate in seen[2]) == pytest.approx(1.0)


def test_within_phases_gradients_are_measured_before_the_update() -> None:
    def rates(wrapped: Callable[[Optimizer], SignalScheduler]) -> list[float]:
        weights = [nn.Parameter(torch.zeros(4)) for _ in range(2)]
        optimizer = SGD([{"params": [w], "name": str(i)} for i, w in enumerate(weights)], lr=0.1)
        scheduler = wrapped(optimizer)
        for _ in range(5):
            for size, weight in zip((0.01, 1.0), weights, strict=True):
                weight.grad = torch.full((4,), size)
            scheduler.observe(1.0)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        return [group["lr"] for group in optimizer.param_groups]

    weak = {".*": WeakGradients(every=1, limit=100.0)}
    expected = [pytest.approx(0.1 * 10**0.5), pytest.approx(0.1 * 10**-0.5)]
    assert rates(lambda optimizer: PhasesLR(LayerwiseLR(SlopeLR(optimizer), weak))) == expected
    assert rates(lambda optimizer: LayerwiseLR(PhasesLR(SlopeLR(optimizer)), weak)) == expected
    late = rates(lambda optimizer: PhasesLR(LayerwiseLR(SlopeLR(optimizer), weak), warmup_steps=3))
    assert late == expected


def test_a_group_that_was_added_is_there_when_a_state_is_loaded() -> None:
    def grown() -> LayerwiseLR:
        optimizer = SGD([{"params": [nn.Parameter(torch.zeros(4))], "name": "stem"}], lr=0.1)
        scheduler = LayerwiseLR(SlopeLR(optimizer), {"stem": 0.5})
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(4))], "name": "head"})
        return scheduler

    scheduler, other = grown(), grown()
    scheduler.optimizer.step()
    scheduler.step(1.0)
    other.optimizer.load_state_dict(scheduler.optimizer.state_dict())
    other.load_state_dict(scheduler.state_dict())
    assert [group["lr"] for group in other.optimizer.param_groups] == [0.05, 0.1]


def test_at_full_strength_rate_times_gradient_is_the_same_everywhere() -> None:
    sizes = [0.1, 0.5, 1.0, 2.0]
    _, seen = measured(WeakGradients(strength=1.0, every=1), sizes, num_updates=2)
    steps = [rate * size for rate, size in zip(seen[1], sizes, strict=True)]
    assert steps == pytest.approx([steps[0]] * 4)


def test_the_multipliers_fade_as_the_rate_decays() -> None:
    sizes = [0.01, 0.1, 1.0, 10.0]
    _, seen = measured(WeakGradients(strength=0.5, every=1, limit=100.0), sizes, num_updates=60, decay=0.9)
    for index in (1, 10, 59):
        base = 0.1 * 0.9**index
        expected = [base * (10**-0.5 / size) ** (0.5 * 0.9**index) for size in sizes]
        assert seen[index] == pytest.approx(expected)
    assert max(seen[59]) / min(seen[59]) == pytest.approx(1.0, abs=0.01)


def test_no_multiplier_is_beyond_the_limit() -> None:
    _, seen = measured(WeakGradients(strength=1.0, every=1, limit=3.0), [1e-6, 1.0, 1.0, 1e6], num_updates=2)
    assert seen[1] == pytest.approx([0.3, 0.1, 0.1, 0.1 / 3])


def test_measurements_are_averaged() -> None:
    scheduler, _ = measured(WeakGradients(every=1, memory=0.75), [0.1, 1.0, 1.0, 10.0], num_updates=1)
    first = math.log(10.0)
    assert scheduler.state_dict()["_weak"]["stem"] == pytest.approx(first)
    for group in scheduler.optimizer.param_groups:
        group["params"][0].grad = torch.ones(4)
    scheduler.observe(1.0)
    scheduler.optimizer.step()
    scheduler.step()
    assert scheduler.state_dict()["_weak"]["stem"] == pytest.approx(0.75 * first)


def test_each_group_learns_at_its_own_updates_by_the_mean_of_all() -> None:
    optimizer = sgd()
    weak = {"stem": WeakGradients(every=2, memory=0.0), "l.*": WeakGradients(every=3, memory=0.0)}
    scheduler = LayerwiseLR(LambdaLR(optimizer, schedules.constant()), weak)
    seen = []
    for step in range(1, 7):
        stem = math.exp(-4.0 * step)  # so that the mean of log r is -step, and its distance 3 step and -step
        for group, size in zip(optimizer.param_groups, (stem, 1.0, 1.0, 1.0), strict=True):
            group["params"][0].grad = torch.full((4,), size)
        scheduler.observe(1.0)
        optimizer.step()
        scheduler.step()
        weakness = scheduler.state_dict()["_weak"]
        seen.append((weakness.get("stem", 0.0), weakness.get("layer1", 0.0)))
    expected = [(0, 0), (6, 0), (6, -3), (12, -3), (12, -3), (18, -6)]
    assert seen == [pytest.approx(pair, abs=1e-5) for pair in expected]


def test_of_several_backward_passes_the_last_is_measured() -> None:
    optimizer = sgd()
    scheduler = LayerwiseLR(LambdaLR(optimizer, schedules.constant()), {".*": WeakGradients(every=1)})
    for sizes in ([9.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]):  # the first is of a part of the batch
        for group, size in zip(optimizer.param_groups, sizes, strict=True):
            group["params"][0].grad = torch.full((4,), size)
        scheduler.observe(1.0)
    optimizer.step()
    scheduler.step()
    assert scheduler.state_dict()["_weak"] == pytest.approx(dict.fromkeys(NAMES, 0.0))


def test_a_group_without_a_gradient_teaches_nothing() -> None:
    optimizer = sgd()
    scheduler = LayerwiseLR(LambdaLR(optimizer, schedules.constant()), {".*": WeakGradients(every=1)})
    optimizer.param_groups[0]["params"][0].grad = torch.ones(4)
    scheduler.observe(1.0)
    optimizer.step()
    scheduler.step()
    assert scheduler.state_dict()["_weak"] == {}
    assert [group["lr"] for group in optimizer.param_groups] == [0.1] * 4


def test_a_group_that_is_added_later_is_matched() -> None:
    scheduler = LayerwiseLR(ArticleLR(sgd(), check_every=100), {"stem": 0.1, "l.*": 2.0})
    scheduler.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.3, "name": "late"})
    assert play(scheduler, 2)[1] == pytest.approx([0.01, 0.2, 0.2, 0.2, 0.6])


@pytest.mark.parametrize(
    ("multipliers", "message"),
    [
        ({"stm": 0.1}, "'stm' matches no group. There are: stem, layer1, layer2, linear"),
        ({"layer": 0.1}, "'layer' matches no group"),  # the whole name must match
        ({"layer[12": 0.1}, "'layer.12' is not a valid regular expression .unterminated character set at position 5."),
        ({"layer.*": 0.1, "layer2": 0.2}, "group 'layer2' is matched by 'layer.[*]' and 'layer2'"),
    ],
)
def test_patterns_that_mean_nothing_or_two_things_are_refused(multipliers: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayerwiseLR(LambdaLR(sgd(), schedules.constant()), multipliers)  # type: ignore[arg-type]


def test_groups_must_have_names_and_rates_of_their_own() -> None:
    nameless = SGD([nn.Parameter(torch.zeros(1))], 0.1)
    with pytest.raises(ValueError, match=r"every parameter group must have a name, got \[None\]"):
        LayerwiseLR(LambdaLR(nameless, schedules.constant()), {})
    shared = sgd()
    rate = torch.tensor(0.1)
    for group in shared.param_groups:
        group["lr"] = rate
    with pytest.raises(ValueError, match="groups share one tensor as their rate"):
        LayerwiseLR(LambdaLR(shared, schedules.constant()), {"stem": 0.1})


@pytest.mark.parametrize("options", [{"strength": 1.1}, {"every": 0}, {"memory": 1.0}, {"limit": 0.5}])
def test_impossible_measurements_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="WeakGradients: strength must be in"):
        WeakGradients(**options)  # type: ignore[arg-type]
