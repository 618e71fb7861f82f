"""What a comparison promises, on simulated studies: few enough for a test, with bounds that chance does not break.

Bounds are binomial, one chance in a million each, and the seeds are fixed. `benchmarks/comparison.py` has the figures.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import comparison
from lrlab.compare import statistics

RARE = 1e-6


@pytest.mark.parametrize("noise", comparison.NOISE)
@pytest.mark.parametrize(("num_arms", "num_seeds"), [(2, 3), (3, 5), (5, 10)])
def test_a_schedule_is_different_from_itself_in_at_most_5_percent(noise: str, num_arms: int, num_seeds: int) -> None:
    found = comparison.false_alarms_of_tests(noise, num_arms=num_arms, num_seeds=num_seeds, num_studies=4_000)
    assert found["count"] <= stats.binom.isf(RARE, 4_000, 0.05)


@pytest.mark.parametrize(("noise", "num_seeds"), [("normal", 5), ("360 images", 2), ("360 images", 3)])
def test_those_tests_are_the_comparisons(noise: str, num_seeds: int) -> None:
    accuracies = comparison.NOISE[noise](np.random.default_rng(0), (12, 2, num_seeds))
    accuracies[:4, 1] += 0.03  # some that do differ
    accuracies[4, 1] = accuracies[4, 0] + 10 / 360  # and some alike in all seeds
    accuracies[5, 1] = accuracies[5, 0]
    one_by_one = [comparison.calls_any_different(study) for study in accuracies]
    assert list(comparison.any_different((accuracies[:, 1] - accuracies[:, 0])[:, None])) == one_by_one


@pytest.mark.parametrize("num_seeds", comparison.SEEDS)
@pytest.mark.parametrize("size", [0.5, 1.0, "detectable"])
def test_a_planted_difference_is_found_with_the_power_predicted(num_seeds: int, size: float | str) -> None:
    planted = statistics.detectable_difference(num_seeds) if isinstance(size, str) else size
    found = comparison.found_and_predicted(planted, num_seeds, num_studies=4_000)
    low, high = stats.binom.interval(1 - RARE, 4_000, found["predicted"])
    assert low <= found["count"] <= high
    assert size != "detectable" or found["predicted"] == pytest.approx(0.8)


@pytest.mark.parametrize("num_seeds", comparison.SEEDS)
@pytest.mark.parametrize("scatter", ["normal", "both arms skewed"])
def test_intervals_hold_the_truth_in_93_to_97_percent(num_seeds: int, scatter: str) -> None:
    found = comparison.coverage("Student", scatter, num_seeds, num_studies=10_000)
    low, high = stats.binom.interval(1 - RARE, 10_000, 0.95)
    assert low <= found["count"] and 0.93 <= found["share"] <= 0.97
    assert scatter != "normal" or found["count"] <= high


def test_the_bootstraps_interval_is_too_narrow_to_be_the_headline() -> None:
    found = comparison.coverage("bootstrap, BCa", "normal", 5, num_studies=300)
    assert found["count"] <= stats.binom.isf(RARE, 300, 0.90)
    assert found["width_over_student"] < 0.75
