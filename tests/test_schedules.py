"""Open-loop schedules: trajectories written by hand, and torch's own where it has one."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from lrlab import schedules
from lrlab.schedules import Schedule


def played(schedule: Schedule, count: int) -> list[float]:
    return [schedule(index) for index in range(count)]


def test_constant() -> None:
    assert played(schedules.constant(), 3) == [1.0, 1.0, 1.0]


def test_step_decays_every_step_size_updates() -> None:
    assert played(schedules.step(2, factor=0.5), 6) == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_linear_reaches_its_end_at_the_last_update_and_stays() -> None:
    assert played(schedules.linear(5), 7) == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("make", [schedules.linear, schedules.cosine, schedules.one_minus_sqrt])
def test_a_run_of_one_update_makes_it_at_the_start(make: Callable[[int], Schedule]) -> None:
    assert played(make(1), 2) == [1.0, 0.0]


def test_cosine_by_hand() -> None:
    half = math.sqrt(0.5)
    expected = [1.0, (1 + half) / 2, 0.5, (1 - half) / 2, 0.0, 0.0]
    assert played(schedules.cosine(5), 6) == pytest.approx(expected, abs=1e-15)


def test_cosine_ends_at_the_floor() -> None:
    assert schedules.cosine(100, end=0.1)(99) == pytest.approx(0.1)


def test_one_minus_sqrt_by_hand() -> None:
    # p = 0, 1/4, 1
    assert [schedules.one_minus_sqrt(5)(index) for index in (0, 1, 4)] == pytest.approx([1.0, 0.5, 0.0])


def test_wsd_by_hand() -> None:
    rates = played(schedules.wsd(10, warmup_steps=2, cooldown_steps=4, shape="linear"), 12)
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0, 0])


def test_wsd_cools_down_by_the_root_unless_told_otherwise() -> None:
    rates = played(schedules.wsd(4, warmup_steps=0, cooldown_steps=4), 4)
    assert rates == pytest.approx([1 - math.sqrt(p) for p in (0.25, 0.5, 0.75, 1.0)])


def test_wsd_without_warmup_and_cooldown_is_constant() -> None:
    assert played(schedules.wsd(3, warmup_steps=0, cooldown_steps=0), 5) == [1.0] * 5


def test_wsd_whose_parts_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"between 0 and total_steps = 10, got 6 \+ 5"):
        schedules.wsd(10, warmup_steps=6, cooldown_steps=5)


@pytest.mark.parametrize("total_steps", [10, 100, 1437])
def test_one_cycle_is_torchs(total_steps: int) -> None:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], 1.0)
    reference = OneCycleLR(optimizer, max_lr=1.0, total_steps=total_steps, cycle_momentum=False)
    expected = []
    for index in range(total_steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if index < total_steps - 1:
            reference.step()
    assert played(schedules.one_cycle(total_steps), total_steps) == pytest.approx(expected, rel=1e-9)


def test_join_plays_each_from_its_own_start() -> None:
    joined = schedules.join([float, lambda index: 10.0 + index, lambda index: 20.0 + index], [2, 0, 1])
    assert played(joined, 5) == [0.0, 1.0, 20.0, 21.0, 22.0]


@pytest.mark.parametrize("lengths", [[1], [1, -1], [0, 0]])
def test_join_refuses_lengths_that_make_no_sense(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="needs one length"):
        schedules.join([schedules.constant(), schedules.constant()], lengths)


ALL = {
    "constant": lambda total: schedules.constant(),
    "step": lambda total: schedules.step(3, factor=0.1),
    "linear": lambda total: schedules.linear(total, end=0.01),
    "cosine": lambda total: schedules.cosine(total, end=0.01),
    "one_minus_sqrt": lambda total: schedules.one_minus_sqrt(total),
    "wsd": lambda total: schedules.wsd(total, warmup_steps=total // 10, cooldown_steps=total // 5),
    "one_cycle": lambda total: schedules.one_cycle(total),
}


@pytest.mark.parametrize("name", ALL)
@given(total=st.integers(1, 500), index=st.integers(0, 10_000))
def test_multipliers_stay_between_0_and_1_and_nothing_raises_past_the_end(name: str, total: int, index: int) -> None:
    assert 0.0 <= ALL[name](total)(index) <= 1.0 + 1e-12


@pytest.mark.parametrize("name", ALL)
def test_torchs_lambda_scheduler_plays_them_as_they_are(name: str) -> None:
    schedule = ALL[name](20)
    optimizer = SGD([nn.Parameter(torch.zeros(1))], 0.5)
    scheduler = LambdaLR(optimizer, schedule)
    for index in range(25):
        assert optimizer.param_groups[0]["lr"] == 0.5 * schedule(index)
        optimizer.step()
        scheduler.step()
