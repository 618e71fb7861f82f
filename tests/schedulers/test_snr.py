"""SnrLR: its formula against simulated gradients whose signal is known."""

import math

import pytest
import torch
from torch import nn
from torch.optim import Adam

from lrlab.schedulers import SnrLR
from lrlab.schedulers.snr import moments_signal


def adam(*, size: int = 2_000, betas: tuple[float, float] = (0.9, 0.999), num_groups: int = 1) -> Adam:
    groups = [{"params": [nn.Parameter(torch.zeros(size))], "name": str(index)} for index in range(num_groups)]
    return Adam(groups, 1e-3, betas=betas)


def update(optimizer: Adam, generator: torch.Generator, *, signal: float) -> None:
    """One update by gradients with a mean of `signal` in every number and noise of variance 1."""
    for group in optimizer.param_groups:
        (parameter,) = group["params"]
        parameter.grad = signal + torch.randn(parameter.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.99), (0.95, 0.98)])
@pytest.mark.parametrize("signal", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("num_updates", [5, 40, 400])
def test_the_signal_is_the_share_of_the_squared_gradient_that_is_mean(
    signal: float, betas: tuple[float, float], num_updates: int
) -> None:
    optimizer = adam(size=20_000, betas=betas)
    generator = torch.Generator().manual_seed(0)
    for _ in range(num_updates):
        update(optimizer, generator, signal=signal)
    # 20,000 numbers: the ratio of the sums scatters by about a hundredth of itself
    assert float(moments_signal(optimizer)) == pytest.approx(signal**2 / (signal**2 + 1), abs=0.03)


def test_a_slow_twin_in_python_floats() -> None:
    optimizer = adam(size=3, num_groups=2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(7):
        update(optimizer, generator, signal=0.5)
    expected = []
    for group in optimizer.param_groups:
        state = optimizer.state[group["params"][0]]
        means, squares = state["exp_avg"].tolist(), state["exp_avg_sq"].tolist()
        corrected = sum((m / (1 - 0.9**7)) ** 2 for m in means) / sum(v / (1 - 0.999**7) for v in squares)
        # m_hat is the weighted mean of seven gradients, so its variance is the sum of the squared weights
        weights = [0.1 * 0.9**age / (1 - 0.9**7) for age in range(7)]
        noise = sum(weight**2 for weight in weights)
        expected.append((corrected - noise) / (1 - noise))
    assert float(moments_signal(optimizer)) == pytest.approx(sum(expected) / 2, rel=1e-5)


@pytest.mark.parametrize("late_is_first", [True, False])
def test_a_parameter_that_joined_late_has_a_bias_of_its_own(late_is_first: bool) -> None:
    early, late = nn.Parameter(torch.zeros(20_000)), nn.Parameter(torch.zeros(200))
    optimizer = Adam([late, early] if late_is_first else [early, late], 1e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(2_000):
        early.grad = torch.randn(early.shape, generator=generator)
        late.grad = torch.randn(late.shape, generator=generator) if step >= 1_990 else None
        optimizer.step()
    assert float(moments_signal(optimizer)) == pytest.approx(0.0, abs=0.03)  # of nothing but noise


def test_moments_of_a_frozen_parameter_do_not_count() -> None:
    optimizer = adam(num_groups=2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        update(optimizer, generator, signal=1.0)
    optimizer.param_groups[0]["params"][0].requires_grad_(False)
    optimizer.state[optimizer.param_groups[0]["params"][0]]["exp_avg"].zero_()
    assert float(moments_signal(optimizer)) == pytest.approx(0.5, abs=0.05)


def test_before_the_first_update_there_is_no_signal_to_know() -> None:
    assert math.isnan(float(moments_signal(adam())))


def test_after_a_single_update_there_is_no_signal_to_know_and_other_groups_count_alone() -> None:
    optimizer = adam()
    generator = torch.Generator().manual_seed(0)
    update(optimizer, generator, signal=1.0)
    assert math.isnan(float(moments_signal(optimizer)))  # R = r0 = 1
    update(optimizer, generator, signal=1.0)
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2_000))]})
    update(optimizer, generator, signal=1.0)
    assert float(moments_signal(optimizer)) == pytest.approx(0.5, abs=0.05)


def test_the_first_look_is_at_the_samples_after_the_first_update() -> None:
    scheduler = SnrLR(adam(), check_every=6, sample_every=1)
    decisions(scheduler, [3.0] * 5)
    update(scheduler.optimizer, torch.Generator().manual_seed(2), signal=3.0)  # type: ignore[arg-type]
    scheduler.step()
    (look,) = scheduler.take_decisions()
    assert look["num_samples"] == 5
    assert look["signal"] == pytest.approx(0.9, abs=0.05)


def decisions(scheduler: SnrLR, signals: list[float]) -> list[str]:
    generator = torch.Generator().manual_seed(1)
    for signal in signals:
        update(scheduler.optimizer, generator, signal=signal)  # type: ignore[arg-type]
        scheduler.step()
    return [decision["decision"] for decision in scheduler.take_decisions()]


def test_it_decays_once_the_signal_has_gone() -> None:
    scheduler = SnrLR(adam(), check_every=100, sample_every=20)
    found = decisions(scheduler, [0.5] * 300 + [0.0] * 300)
    assert found[:3] == ["keep"] * 3
    assert "decay" in found[3:]


def test_gradients_that_oppose_each_other_make_it_decay() -> None:
    # from side to side of a valley: the moment is far below what independent noise would leave
    scheduler = SnrLR(adam(), check_every=100, sample_every=20)
    found = decisions(scheduler, [3.0, -3.0] * 100)
    assert found == ["decay", "decay"]


def test_on_pure_noise_it_keeps_the_rate_as_seldom_as_the_level_says() -> None:
    # what it must not do is to see a signal: then it never decays
    kept = decisions(SnrLR(adam(size=200), check_every=200, sample_every=20, min_lr=0.0), [0.0] * 20_000).count("keep")
    assert kept / 100 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 100)


def test_a_look_tells_what_it_saw() -> None:
    scheduler = SnrLR(adam(), check_every=100, sample_every=10)
    decisions(scheduler, [0.0] * 99)
    update(scheduler.optimizer, torch.Generator().manual_seed(2), signal=0.0)  # type: ignore[arg-type]
    scheduler.step()
    (look,) = scheduler.take_decisions()
    assert (look["rule"], look["step"], look["num_samples"], look["threshold"]) == ("snr", 100, 10, 0.05)
    assert look["signal"] == pytest.approx(0.0, abs=0.05)
    assert look["p"] >= 0.05
    assert look["decision"] == "decay"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_every": 0}, "sample_every must be >= 1, got 0"),
        ({"check_every": 99}, r"check_every must be at least 5 \* sample_every, got 99"),
        ({"min_signal": 1.0}, r"min_signal must be in \[0, 1\), got 1.0"),
        ({"level": 0.0}, r"level must be in \(0, 0.5\), got 0.0"),
    ],
)
def test_impossible_values_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SnrLR(adam(), **options)  # type: ignore[arg-type]


def test_a_stretch_that_was_saved_with_another_interval_of_samples_begins_anew() -> None:
    weights = nn.Parameter(torch.zeros(4))
    optimizer = Adam([weights])

    def go(rule: SnrLR, num_updates: int) -> list[int]:
        for _ in range(num_updates):
            weights.grad = torch.randn(4)
            optimizer.step()
            rule.step()
        return [decision["step"] for decision in rule.take_decisions()]

    saved = SnrLR(optimizer, check_every=119, sample_every=20)
    assert go(saved, 220) == [119]
    rule = SnrLR(optimizer, check_every=119, sample_every=23)
    rule.load_state_dict(saved.state_dict())
    assert go(rule, 119) == [339], "a whole stretch from 220 on"
