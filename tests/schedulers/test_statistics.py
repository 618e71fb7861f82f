"""The tests that rules decide by, against scipy, slow twins and simulated noise."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lrlab.schedulers.statistics import (
    Estimate,
    batch_means_estimate,
    mean_estimate,
    normal_cdf,
    slope_estimate,
    student_cdf,
)


@given(t=st.floats(-50, 50), dof=st.floats(2, 1e5))
def test_students_distribution_is_scipys(t: float, dof: float) -> None:
    tolerance = 3e-4 if dof < 5 else 1e-6
    assert student_cdf(t, dof) == pytest.approx(stats.t.cdf(t, dof), abs=tolerance)


@given(z=st.floats(-9, 9))
def test_the_normal_distribution_is_scipys(z: float) -> None:
    assert normal_cdf(z) == pytest.approx(stats.norm.cdf(z), abs=1e-15, rel=1e-12)


def noise(count: int, *, correlation: float = 0.0, seed: int = 0) -> torch.Tensor:
    """A first-order autoregression of standard normal innovations, stationary from its first value."""
    innovations = np.random.default_rng(seed).standard_normal(count)
    values = np.empty(count)
    values[0] = innovations[0] / math.sqrt(1 - correlation**2)
    for index in range(1, count):
        values[index] = correlation * values[index - 1] + innovations[index]
    return torch.from_numpy(values)


def negatively_correlated(count: int) -> torch.Tensor:
    return noise(count) * torch.tensor([1.0, -1.0]).repeat(count)[:count].abs() - 0.5 * noise(count).roll(1)


def test_without_correlation_the_slope_is_that_of_ordinary_least_squares() -> None:
    values = negatively_correlated(200)  # what is negative is not corrected for
    found = slope_estimate(values)
    expected = stats.linregress(np.arange(200), values.numpy())
    assert found.autocorrelation == 0.0
    assert found.value == pytest.approx(expected.slope, rel=1e-9)
    assert found.std_error == pytest.approx(expected.stderr, rel=1e-9)
    assert found.dof == 198
    assert found.p_above(0.0) == pytest.approx(
        stats.linregress(np.arange(200), values.numpy(), alternative="greater").pvalue, abs=1e-9
    )


def test_without_correlation_the_mean_is_that_of_a_t_test() -> None:
    values = negatively_correlated(50) + 0.2
    found = mean_estimate(values)
    assert found.autocorrelation == 0.0
    assert found.p_above(0.1) == pytest.approx(
        stats.ttest_1samp(values.numpy(), 0.1, alternative="greater").pvalue, abs=1e-7
    )


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("estimate", [mean_estimate, slope_estimate], ids=["mean", "slope"])
def test_p_is_below_a_level_as_often_as_the_level_says(estimate: object, correlation: float) -> None:
    num_traces, level = 2_000, 0.05
    traces = (noise(400, correlation=correlation, seed=seed) for seed in range(num_traces))
    share = sum(estimate(trace).p_above(0.0) < level for trace in traces) / num_traces  # type: ignore[operator]
    # one standard error of the share is 0.5 %; at a correlation of 0.9 only 21 values are independent, and the
    # estimate of the correlation scatters: there it is up to twice the level
    assert 0.03 < share < (0.07 if correlation < 0.9 else 0.10)


def test_batch_means_are_right_as_often_as_the_level_says_and_see_through_a_trend() -> None:
    traces = (noise(400, correlation=0.3, seed=seed) for seed in range(2_000))
    share = sum(batch_means_estimate(trace).p_above(0.0) < 0.05 for trace in traces) / 2_000
    assert 0.03 < share < 0.08
    falling = torch.linspace(3.0, 1.0, 60, dtype=torch.float64) + 0.01 * noise(60)
    found = batch_means_estimate(falling)
    means = falling[4:].view(8, 7).mean(1)  # sqrt(60) is 7, and 4 are left over
    assert found.value == pytest.approx(float(means.mean()))
    assert found.std_error == pytest.approx(stats.sem(means.numpy()))
    assert found.p_above(0.0) < 1e-4


@pytest.mark.parametrize("correlation", [0.6, 0.9])
def test_without_the_correction_it_would_be_far_more_often(correlation: float) -> None:
    traces = [noise(400, correlation=correlation, seed=seed).numpy() for seed in range(500)]
    times = np.arange(400)
    share = np.mean([stats.linregress(times, trace, alternative="greater").pvalue < 0.05 for trace in traces])
    assert share > 0.15


def test_a_slope_is_found_in_noise_that_remembers() -> None:
    falling = -0.05 * torch.arange(400, dtype=torch.float64) + noise(400, correlation=0.6)
    found = slope_estimate(falling)
    assert found.value == pytest.approx(-0.05, abs=4 * found.std_error)
    assert found.p_above(0.0) > 0.999
    assert found.p_above(-0.1) < 0.001


def test_without_noise_p_is_certain() -> None:
    assert [Estimate(1.0, 0.0, 5.0).p_above(bound) for bound in (0.0, 1.0, 2.0)] == [0.0, 0.5, 1.0]
    assert slope_estimate(torch.full((50,), 2.5, dtype=torch.float64)).p_above(0.0) == 0.5
