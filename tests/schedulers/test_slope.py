"""SlopeLR: dlib's rule against a slow twin of dlib's code, and the repaired test on traces whose truth is known."""

import math
from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.optim import SGD

from lrlab.schedulers import PlateauLR, SlopeLR
from lrlab.schedulers.statistics import slope_estimate


def optimizer(lr: float = 0.1) -> SGD:
    return SGD([nn.Parameter(torch.zeros(1))], lr)


def decays(scheduler: SlopeLR | PlateauLR, losses: np.ndarray | torch.Tensor) -> list[int]:
    """The updates after which it decayed."""
    decisions = scheduler.replay(torch.as_tensor(losses, dtype=torch.float64))
    return [decision["step"] for decision in decisions if decision["decision"] == "decay"]


def probability_of_falling(values: list[float]) -> float:
    """dlib's, from the least-squares line through values that were put in one after the other."""
    count = len(values)
    if count <= 2:
        return 1.0
    line = np.polyfit(np.arange(count), values, 1)
    residuals = np.array(values) - np.polyval(line, np.arange(count))
    variance = max(0.0, float(residuals @ residuals)) / (count - 2)
    error = math.sqrt(12 * variance / (count**3 - count))
    return float(stats.norm.cdf(-line[0] / error)) if error else float(line[0] < 0)


def steps_without_decrease(losses: list[float], *, quantile: float | None) -> int:
    """dlib's count_steps_without_decrease, or its robust twin: the most last losses that do not show a decrease."""
    largest = math.inf
    if quantile is not None:
        largest = sorted(losses)[math.floor((len(losses) - 1) * (1 - quantile) + 0.5)]
    answer = 0
    for count in range(1, len(losses) + 1):
        kept = [loss for loss in losses[-count:] if loss <= largest]
        if len(kept) > 2 and probability_of_falling(kept) < 0.51:
            answer = count
    return answer


def dlibs_decays(losses: np.ndarray, *, window: int) -> list[int]:
    """dlib's trainer, with its budget of steps: the updates after which the rate shrank."""
    history: deque[float] = deque(maxlen=window)
    budget, found = 0, []
    for step, loss in enumerate(losses, 1):
        history.append(float(loss))
        budget += 200
        if budget > window:
            budget = 0
            kept = list(history)
            if (
                steps_without_decrease(kept, quantile=None) >= window
                and steps_without_decrease(kept, quantile=0.10) >= window
            ):
                found.append(step)
                for _ in range(min(len(history), 400 + window // 10)):
                    history.popleft()
    return found


@given(seed=st.integers(0, 10_000), fall=st.sampled_from([0.0, 0.002, 0.01, 0.05]), window=st.sampled_from([20, 30]))
@settings(deadline=None, max_examples=10)
def test_dlibs_rule_is_dlibs(seed: int, fall: float, window: int) -> None:
    generator = np.random.default_rng(seed)
    losses = np.exp(-fall * np.arange(150)) + generator.gamma(2.0, 0.05, 150)
    assert decays(SlopeLR(optimizer(), test="dlib", window=window), losses) == dlibs_decays(losses, window=window)


def test_dlib_keeps_the_latest_losses_of_a_long_window() -> None:
    # at 2,000 it forgets 600, so that on a flat loss the next decay comes 600 updates later at the soonest
    losses = np.random.default_rng(0).gamma(2.0, 0.1, 20_000)
    found = decays(SlopeLR(optimizer(), test="dlib", window=2000, min_lr=0.0), losses)
    gaps = np.diff(found)
    assert found[0] >= 2000 and gaps.min() >= 600
    assert gaps.min() < 2000, "1,400 losses were kept"


def test_on_a_flat_loss_windows_decay_no_more_often_than_the_level_says() -> None:
    # 300 traces of ten windows each; `lrlab replay --calibrate` counts more
    fired = num_windows = 0
    for seed in range(300):
        losses = 1.0 + 0.3 * np.random.default_rng(seed).standard_normal(1_000)
        scheduler = SlopeLR(optimizer(), window=100, min_lr=0.0)
        fired += len(decays(scheduler, losses))
        num_windows += 10
    assert fired / num_windows <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / num_windows)
    assert fired > 0, "or it can never fire"


def falling(count: int, *, rate: float, seed: int = 0) -> np.ndarray:
    """A loss that falls by the share `rate` of itself every 100 updates, and noise of a tenth."""
    times = np.arange(count)
    return np.exp(times * math.log1p(-rate) / 100) * (1 + 0.1 * np.random.default_rng(seed).standard_normal(count))


@pytest.mark.parametrize("seed", range(5))
def test_a_plateau_is_found_within_few_windows_and_not_before(seed: int) -> None:
    losses = np.concatenate([falling(600, rate=0.3, seed=seed), np.full(600, 0.7**6) + 0.01 * noise(600, seed)])
    found = decays(SlopeLR(optimizer(), window=100, min_progress=0.2, min_lr=0.0), losses)
    assert found and 600 < found[0] <= 750


def noise(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(100 + seed).standard_normal(count)


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_creeps_down_counts_as_a_plateau_below_the_least_progress(seed: int) -> None:
    # mir-group/nequip#326: ReduceLROnPlateau never fires while the loss falls by ever smaller amounts
    creeping = falling(2_000, rate=0.005, seed=seed)
    assert decays(SlopeLR(optimizer(), window=500, min_progress=0.15, min_lr=0.0), creeping)
    assert not decays(SlopeLR(optimizer(), window=500, min_progress=0.0, min_lr=0.0), creeping)


def spiked() -> np.ndarray:
    """The loss of pytorch/pytorch#30873: it falls, jumps up within a few updates, and falls again for long."""
    before, after = falling(250, rate=0.5, seed=1), 3 * falling(1_500, rate=0.25, seed=2)
    return np.concatenate([before, np.linspace(before[-1], after[0], 5), after])


def test_a_steady_fall_after_a_spike_is_no_plateau() -> None:
    assert not decays(SlopeLR(optimizer(), window=100), spiked())
    # whereas torch's, on the means of the same stretches, takes the way back for one
    assert decays(PlateauLR(optimizer(), check_every=25, patience=5), spiked())


def test_spikes_in_a_falling_loss_are_no_rise() -> None:
    # single losses of ten times the size in the last stretch before a look tip the plain line upwards
    losses = falling(100, rate=0.1, seed=3)
    losses[90::3] *= 10
    scheduler = SlopeLR(optimizer(), window=100, level=0.4, check_every=100)
    (look,) = scheduler.replay(torch.from_numpy(losses))
    assert look["p"] < look["threshold"] < look["robust_p"]
    assert look["decision"] == "keep"


def test_a_look_tells_what_it_saw() -> None:
    losses = torch.from_numpy(1.0 + 0.1 * noise(40, 0) + 0.05 * np.arange(40))
    scheduler = SlopeLR(optimizer(), window=40, check_every=20)
    waiting, look = scheduler.replay(losses)
    assert waiting == {
        "step": 20, "rule": "slope", "num_losses": 20, "decision": "keep", "lr_before": [0.1], "lr_after": [0.1],
    }  # fmt: skip
    expected = slope_estimate(losses)
    assert (look["slope"], look["std_error"], look["dof"]) == (expected.value, expected.std_error, expected.dof)
    assert look["mean_loss"] == pytest.approx(float(losses.mean()))
    assert (look["required_slope"], look["threshold"]) == (0.0, 0.05 * 20 / 40)
    assert look["p"] < look["threshold"] and look["robust_p"] < look["threshold"]
    assert (look["decision"], look["lr_after"]) == ("decay", [pytest.approx(0.01)])


@pytest.mark.parametrize(("forget", "kept"), [(None, 0), (15, 25), (100, 0)])
def test_a_decay_forgets_the_oldest_losses(forget: int | None, kept: int) -> None:
    scheduler = SlopeLR(optimizer(), window=40, check_every=20, forget=forget)
    decisions = scheduler.replay(torch.arange(40, dtype=torch.float64))  # it rises without noise
    assert decisions[-1]["decision"] == "decay"
    assert scheduler.state_dict()["_window"].tolist() == list(range(40 - kept, 40))


def test_the_floor_holds() -> None:
    scheduler = SlopeLR(optimizer(), window=10, check_every=10, min_lr=0.05)
    decisions = scheduler.replay(torch.arange(40, dtype=torch.float64))
    assert [decision["lr_after"] for decision in decisions] == [[0.05]] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": "z"}, r"test must be \"t\" or \"dlib\", got 'z'"),
        ({"window": 9}, "window must be a whole number >= 10, got 9"),
        ({"window": 10.5}, "window must be a whole number >= 10, got 10.5"),
        ({"window": 20, "check_every": 21}, "check_every must be at most window = 20, got 21"),
        ({"level": 0.5}, r"level must be in \(0, 0.5\), got 0.5"),
        ({"min_progress": 1.0}, r"min_progress must be in \[0, 1\), got 1.0"),
        ({"forget": 0}, "forget must be >= 1, got 0"),
        ({"test": "dlib", "level": 0.1}, 'are fixed by test="dlib": leave them out'),
    ],
)
def test_impossible_values_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SlopeLR(optimizer(), **options)  # type: ignore[arg-type]
