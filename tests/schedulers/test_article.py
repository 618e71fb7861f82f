"""ArticleLR against a slow twin that follows the article's text line by line."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import Adam

from lrlab.schedulers import ArticleLR


def articles_rates(
    losses: list[float], *, multiplier: float, k: int, starting_lr: float, ending_lr: float
) -> list[float]:
    """The article's loop, with its own names: the rate of each update."""
    current_lr = starting_lr
    accumulated_loss: list[float] = []
    rates = []
    for i, loss in enumerate(losses, 0):
        rates.append(current_lr)
        accumulated_loss.append(loss)
        if (
            i % k == k - 1
            and len(accumulated_loss) > 1  # np.mean of nothing is nan, which is <= no number
            and np.abs(np.mean(np.diff(np.array(accumulated_loss)))) <= multiplier * current_lr
        ):
            current_lr = np.max([current_lr * 1e-1, ending_lr])
            accumulated_loss.clear()
    return [float(rate) for rate in rates]


def our_rates(losses: list[float], *, multiplier: float, k: int, starting_lr: float, ending_lr: float) -> list[float]:
    optimizer = Adam([nn.Parameter(torch.zeros(1))], starting_lr)
    scheduler = ArticleLR(optimizer, multiplier=multiplier, check_every=k, min_lr=ending_lr)
    rates = []
    for loss in losses:
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.observe(torch.tensor(loss, dtype=torch.float64))
        optimizer.step()
        scheduler.step()
    return rates


@given(
    losses=st.lists(st.floats(0, 4), min_size=1, max_size=300),
    multiplier=st.sampled_from([0.2, 0.5, 3.0, 40.0]),
    k=st.integers(1, 40),
)
@settings(deadline=None, max_examples=150)
def test_rates_are_the_articles_for_any_losses(losses: list[float], multiplier: float, k: int) -> None:
    setting = {"multiplier": multiplier, "k": k, "starting_lr": 1e-3, "ending_lr": 1e-6}
    assert our_rates(losses, **setting) == articles_rates(losses, **setting)


def test_rates_are_the_articles_on_a_noisy_curve_that_decays_to_the_floor() -> None:
    noise = np.random.default_rng(0)
    losses = list(2.3 * np.exp(-np.arange(20_000) / 3_000) + noise.gamma(2.0, 0.1, 20_000))
    setting = {"multiplier": 20.0, "k": 100, "starting_lr": 1e-3, "ending_lr": 1e-6}
    expected = articles_rates(losses, **setting)
    assert our_rates(losses, **setting) == expected
    assert {f"{rate:.0e}" for rate in expected} == {"1e-03", "1e-04", "1e-05", "1e-06"}  # or it would show nothing


def test_trajectory_written_by_hand() -> None:
    # multiplier * lr = 0.5 * 0.1 = 0.05 at first, 0.005 after the decay; a look every 3 updates
    losses = [
        1.0, 0.5, 0.8,  # |0.8 - 1.0| / 2 = 0.1   > 0.05   keep
        0.9, 0.7, 1.2,  # |1.2 - 1.0| / 5 = 0.04 <= 0.05   decay, forget
        1.0, 0.4, 0.9,  # |0.9 - 1.0| / 2 = 0.05  > 0.005  keep
        0.2, 0.3, 1.02,  # |1.02 - 1.0| / 5 = 0.004 <= 0.005 decay
        0.0,
    ]  # fmt: skip
    rates = our_rates(losses, multiplier=0.5, k=3, starting_lr=0.1, ending_lr=1e-6)
    assert rates == pytest.approx([0.1] * 6 + [0.01] * 6 + [0.001])


def trained(scheduler_options: dict[str, object], *, losses: list[float]) -> tuple[Adam, ArticleLR]:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = Adam([parameter], 1e-3)
    scheduler = ArticleLR(optimizer, check_every=2, **scheduler_options)  # type: ignore[arg-type]
    for loss in losses:
        parameter.grad = torch.ones(2)
        optimizer.step()
        scheduler.step(loss)
    return optimizer, scheduler


def test_a_decay_forgets_adams_moments() -> None:
    optimizer, _ = trained({}, losses=[1.0, 1.0])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    assert len(optimizer.state) == 0


def test_a_decay_keeps_adams_moments_on_request() -> None:
    optimizer, _ = trained({"reset_optimizer": False}, losses=[1.0, 1.0])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    assert [state["step"].item() for state in optimizer.state.values()] == [2.0]


def test_without_a_decay_the_moments_stay() -> None:
    optimizer, _ = trained({}, losses=[1.0, 9.0])
    assert len(optimizer.state) == 1


def test_every_look_leaves_a_decision() -> None:
    _, scheduler = trained({"multiplier": 0.5}, losses=[1.0, 3.0, 1.0, 1.0])
    first, second = scheduler.take_decisions()
    assert first == {
        "step": 2,
        "rule": "article",
        "mean_diff": 2.0,
        "first_loss": 1.0,
        "last_loss": 3.0,
        "num_losses": 2,
        "threshold": 0.0005,
        "decision": "keep",
        "lr_before": [0.001],
        "lr_after": [0.001],
    }
    assert (second["step"], second["num_losses"], second["mean_diff"], second["decision"]) == (4, 4, 0.0, "decay")
    assert second["lr_after"] == pytest.approx([1e-4])
    assert scheduler.take_decisions() == []


def test_the_floor_holds_and_the_rule_goes_on_firing_there() -> None:
    _, scheduler = trained({"factor": 0.1, "min_lr": 5e-4}, losses=[1.0] * 6)
    assert [decision["lr_after"] for decision in scheduler.take_decisions()] == [[5e-4]] * 3


def test_all_groups_decay_and_the_largest_rate_is_tested() -> None:
    slow, fast = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = Adam([{"params": [slow], "lr": 0.01}, {"params": [fast], "lr": 0.1}])
    scheduler = ArticleLR(optimizer, multiplier=0.5, check_every=2)
    for loss in (1.0, 1.04):  # 0.04 is above 0.5 * 0.01, below 0.5 * 0.1
        optimizer.step()
        scheduler.step(loss)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.001, 0.01])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"multiplier": 0.0}, r"multiplier must be > 0, got 0.0"),
        ({"multiplier": float("nan")}, r"multiplier must be > 0, got nan"),
        ({"factor": 1.0}, r"factor must be in \(0, 1\), got 1.0"),
        ({"min_lr": -1.0}, r"min_lr must be >= 0, got -1.0"),
        ({"check_every": 0}, r"check_every must be a whole number >= 1, got 0"),
    ],
)
def test_impossible_values_are_refused(options: dict[str, float], message: str) -> None:
    optimizer = Adam([nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match=message):
        ArticleLR(optimizer, **options)  # type: ignore[arg-type]
