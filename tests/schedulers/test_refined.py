"""The refined schedule against scipy's filter, a slow twin, and the shapes that the source derives."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import median_filter as scipys
from torch import nn
from torch.optim import SGD

from lrlab.schedulers import RefinedLR, refined_multipliers
from lrlab.schedulers.refined import Norm, median_filter


@given(seed=st.integers(0, 1000), count=st.integers(20, 200), share=st.floats(0.05, 0.45))
def test_the_filter_is_scipys_with_the_sources_edges(seed: int, count: int, share: float) -> None:
    values = np.random.default_rng(seed).gamma(2.0, 1.0, count)
    width = 2 * (int(share * count) // 2) + 1
    pad = 2 * width
    expected = scipys(np.pad(values, (0, pad), mode="reflect"), size=width, mode="nearest")[:count]
    assert median_filter(torch.from_numpy(values), width=width).tolist() == expected.tolist()


def slow_twin(norms: np.ndarray, *, power: float, width: int) -> list[float]:
    mirrored = np.pad(norms, (0, 2 * width), mode="reflect")
    windows = [[max(0, t + offset) for offset in range(-(width // 2), width // 2 + 1)] for t in range(len(norms))]
    smooth = [float(np.median(mirrored[window])) for window in windows]
    weights = [norm**-power for norm in smooth]
    rates = [weights[t] * sum(weights[t + 1 :]) for t in range(len(norms))]
    return [rate / max(rates) for rate in rates]


@pytest.mark.parametrize(("norm", "power"), [("l2", 2.0), ("l1", 1.0)])
def test_a_slow_twin(norm: Norm, power: float) -> None:
    norms = np.random.default_rng(0).gamma(4.0, 1.0, 101) * np.linspace(3.0, 1.0, 101)
    found = refined_multipliers(torch.from_numpy(norms), norm=norm, smoothing=0.1, num_points=101)
    assert found == pytest.approx(slow_twin(norms, power=power, width=11), rel=1e-9, abs=1e-12)


def test_constant_gradients_give_a_line_to_zero() -> None:
    found = refined_multipliers(torch.full((1001,), 0.7), norm="l2", num_points=11)
    assert found == pytest.approx([1 - share / 10 for share in range(11)])


def test_large_gradients_at_the_start_give_a_warm_up() -> None:
    norms = torch.cat([torch.linspace(10.0, 1.0, 200), torch.ones(800)])
    found = refined_multipliers(norms, norm="l2", num_points=101)
    peak = found.index(max(found))
    assert 10 <= peak <= 25  # where they have come down
    assert found[0] < 0.1 and found == sorted(found[:peak]) + sorted(found[peak:], reverse=True)


def test_many_norms_are_brought_down_by_medians() -> None:
    generator = torch.Generator().manual_seed(0)
    norms = 1.0 + 0.5 * torch.rand(100_000, generator=generator)
    norms[::97] = 1e6  # spikes
    found = refined_multipliers(norms, norm="l2", num_points=11)
    # the first value stands for all that would be before it, so it is noisier than the others
    assert [value / found[1] for value in found[1:]] == pytest.approx([1 - share / 9 for share in range(10)], abs=0.02)


def test_the_rate_follows_the_table_over_any_length() -> None:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], 2.0)
    scheduler = RefinedLR(optimizer, [0.0, 1.0, 0.0], total_steps=5)
    seen = []
    for _ in range(7):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx([0.0, 1.0, 2.0, 1.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("norms", "options", "message"),
    [
        (torch.ones(9), {}, "at least 10 positive finite numbers"),
        (torch.zeros(20), {}, "at least 10 positive finite numbers"),
        (torch.full((20,), float("nan")), {}, "at least 10 positive finite numbers"),
        (torch.ones(4, 5), {}, "in one dimension"),
        (torch.ones(20), {"smoothing": 0.5}, r"smoothing must be in \(0, 0.5\)"),
        (torch.ones(20), {"num_points": 1}, "num_points >= 2"),
    ],
)
def test_impossible_values_are_refused(norms: torch.Tensor, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        refined_multipliers(norms, norm="l2", **options)  # type: ignore[arg-type]


def test_an_impossible_table_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least two finite multipliers >= 0, got \[1.0\]"):
        RefinedLR(SGD([nn.Parameter(torch.zeros(1))], 1.0), [1.0], total_steps=5)
