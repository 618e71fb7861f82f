"""The arithmetic, beside scipy's own functions, slow twins and figures worked by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lrlab.compare import statistics

Array = npt.NDArray[np.float64]

SAMPLES = [
    np.array([0.012, 0.004, 0.021, -0.003, 0.015]),
    np.array([1.0, 3.0]),
    np.array([-2.0, -1.0, 5.0]),
    np.random.default_rng(0).normal(0.3, 1.0, 13),
]
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@pytest.mark.parametrize("differences", SAMPLES, ids=len)
def test_interval_and_p_are_those_of_scipys_paired_test(differences: Array) -> None:
    other = np.linspace(0.0, 1.0, len(differences))
    trusted = stats.ttest_rel(other + differences, other)
    assert statistics.student_p(differences) == pytest.approx(trusted.pvalue, rel=1e-9)
    assert statistics.student_interval(differences) == pytest.approx(tuple(trusted.confidence_interval(0.95)), rel=1e-9)


def test_the_interval_by_hand() -> None:
    # mean 2, standard deviation 1, standard error 1 / sqrt(3); t with 2 degrees of freedom is 4.3027 at 97.5 %
    low, high = statistics.student_interval(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12).filter(lambda values: np.ptp(values) > 1e-3))
def test_p_is_below_the_level_where_the_interval_leaves_out_zero(values: list[float]) -> None:
    differences = np.array(values)
    low, high = statistics.student_interval(differences)
    assert (statistics.student_p(differences) < statistics.LEVEL) == (low > 0 or high < 0)


def test_many_studies_are_one_call() -> None:
    studies = np.random.default_rng(1).normal(size=(4, 3, 6))
    p_values = statistics.student_p(studies)
    low, high = statistics.student_interval(studies)
    assert p_values.shape == low.shape == high.shape == (4, 3)
    assert p_values[2, 1] == statistics.student_p(studies[2, 1])
    assert (low[2, 1], high[2, 1]) == statistics.student_interval(studies[2, 1])


@pytest.mark.parametrize("differences", SAMPLES, ids=len)
def test_the_bootstrap_is_scipys(differences: Array) -> None:
    trusted = stats.bootstrap((differences,), np.mean, n_resamples=9_999, rng=np.random.default_rng(0))
    assert statistics.bootstrap_interval(differences) == tuple(trusted.confidence_interval)


@pytest.mark.parametrize("differences", SAMPLES, ids=len)
def test_the_sign_flip_test_goes_through_all_flips(differences: Array) -> None:
    sums = [abs(sum(sign * value for sign, value in zip(signs, differences, strict=True)))
            for signs in product((1, -1), repeat=len(differences))]  # fmt: skip
    share = np.mean([found >= abs(differences.sum()) - 1e-12 for found in sums])
    assert statistics.sign_flip_p(differences) == pytest.approx(share, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-12, 12), min_size=2, max_size=8), st.sampled_from([360, 1_000, 10_000]), st.data())
def test_flips_of_accuracies_tie_where_they_do_in_whole_numbers(
    gains: list[int], count: int, data: st.DataObject
) -> None:
    before = [data.draw(st.integers(count // 2, count - 20)) for _ in gains]
    differences = np.array([(base + gain) / count - base / count for base, gain in zip(before, gains, strict=True)])
    flipped = [
        abs(sum(map(math.prod, zip(signs, gains, strict=True)))) for signs in product((1, -1), repeat=len(gains))
    ]
    share = sum(found >= abs(sum(gains)) for found in flipped) / len(flipped)
    assert statistics.sign_flip_p(differences) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("differences", SAMPLES, ids=len)
def test_the_sign_flip_test_is_scipys_on_the_two_arms(differences: Array) -> None:
    def mean_difference(one: Array, other: Array, axis: int = -1) -> Array:
        return np.mean(one - other, axis=axis)

    arms = (differences, np.zeros_like(differences))
    trusted = stats.permutation_test(arms, mean_difference, permutation_type="samples", n_resamples=np.inf)
    assert statistics.sign_flip_p(differences) == pytest.approx(trusted.pvalue, abs=1e-12)


@pytest.mark.parametrize(("num_seeds", "floor"), [(2, 0.5), (5, 0.0625), (6, 0.03125), (10, 2 / 1024)])
def test_differences_of_one_sign_reach_the_floor_and_no_less(num_seeds: int, floor: float) -> None:
    assert statistics.sign_flip_floor(num_seeds) == floor
    assert statistics.sign_flip_p(np.linspace(1, 2, num_seeds)) == pytest.approx(floor)


def test_beyond_thirteen_seeds_flips_are_drawn() -> None:
    assert statistics.is_sign_flip_exact(13) and not statistics.is_sign_flip_exact(14)
    differences = np.random.default_rng(2).normal(0.4, 1.0, 14)
    exact = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    # twice a share among 9,999 draws: five standard errors
    tolerance = 5 * 2 * np.sqrt(exact / 2 / 9_999)
    assert statistics.sign_flip_p(differences) == pytest.approx(exact, abs=tolerance)


def test_holm_by_hand() -> None:
    # 0.01 * 4, then 0.02 * 3, then 0.03 * 2 = 0.06 which is no less than the one before, then 0.04 * 1 raised to that
    assert statistics.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert statistics.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert list(statistics.holm([0.03])) == [0.03]
    assert statistics.holm([]).shape == (0,)


@settings(deadline=None)
@given(P_VALUES, st.floats(0.001, 0.999))
def test_holm_rejects_as_stepping_down_does(p_values: list[float], level: float) -> None:
    rejected = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] * (len(p_values) - rank) > level:
            break
        rejected.add(index)
    assert set(np.flatnonzero(statistics.holm(p_values) <= level)) == rejected


@settings(deadline=None)
@given(P_VALUES)
def test_holm_keeps_the_order_and_only_raises(p_values: list[float]) -> None:
    adjusted = statistics.holm(p_values)
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    assert (adjusted >= p_values).all() and (adjusted <= 1).all()


def test_holm_of_many_families_is_that_of_each() -> None:
    families = np.random.default_rng(0).random((5, 3, 4))
    assert (statistics.holm(families)[3, 2] == statistics.holm(families[3, 2])).all()


def test_the_effect_size_by_hand() -> None:
    # mean 2, standard deviation 1; Hedges' correction for 2 degrees of freedom is 1 / (1 * gamma(1/2)) = 1 / sqrt(pi)
    assert statistics.effect_size(np.array([1.0, 2.0, 3.0])) == pytest.approx(2 / np.sqrt(np.pi))


def test_the_effect_size_is_right_on_average_which_without_correction_it_is_not() -> None:
    drawn = np.random.default_rng(0).normal(0.5, 1.0, size=(5_000, 5))
    sizes = [statistics.effect_size(row) for row in drawn]
    error = np.std(sizes) / np.sqrt(len(sizes))
    assert np.mean(sizes) == pytest.approx(0.5, abs=5 * error)
    assert (drawn.mean(-1) / drawn.std(-1, ddof=1)).mean() > 0.5 + 10 * error


@pytest.mark.parametrize(("difference", "num_seeds"), [(0.5, 34), (0.8, 15), (1.0, 10), (0.2, 199)])
def test_seeds_needed_are_those_of_the_tables(difference: float, num_seeds: int) -> None:
    # G*Power 3.1, difference from constant (one sample), two-sided 0.05, power 0.8
    assert statistics.seeds_needed(difference) == num_seeds


@pytest.mark.parametrize("difference", [0.41, 0.73, 1.31, 2.9])
@pytest.mark.parametrize("level", [0.05, 0.05 / 3])
def test_seeds_needed_are_the_first_that_suffice(difference: float, level: float) -> None:
    powers = (float(statistics.power(difference, n, level=level)) for n in range(2, 10_000))
    assert statistics.seeds_needed(difference, level=level) == next(n for n, one in enumerate(powers, 2) if one >= 0.8)


@pytest.mark.parametrize(("difference", "found"), [(0.0, None), (1e-4, None), (1e9, 2), (-0.5, 34)])
def test_seeds_needed_of_next_to_nothing_and_of_anything(difference: float, found: int | None) -> None:
    assert statistics.seeds_needed(difference) == found


@pytest.mark.parametrize("num_seeds", [*range(2, 31), 100])
@pytest.mark.parametrize("level", [0.05, 0.05 / 3, 0.05 / 45])
def test_the_detectable_difference_has_a_power_of_80_percent(num_seeds: int, level: float) -> None:
    size = statistics.detectable_difference(num_seeds, level=level)
    assert statistics.power(size, num_seeds, level=level) == pytest.approx(0.8)


def test_power_is_that_of_scipys_simulation() -> None:
    generator = np.random.default_rng(0)
    simulated = stats.power(
        lambda sample, axis: stats.ttest_1samp(sample, 0.0, axis=axis),
        lambda size: generator.normal(1.0, 1.0, size=size),
        8,
        significance=0.05,
        n_resamples=10_000,
    ).power
    assert statistics.power(1.0, 8) == pytest.approx(simulated, abs=5 * np.sqrt(0.25 / 10_000))


@pytest.mark.parametrize("num_seeds", [2, 5, 7, 30, 1000])
def test_power_rises_to_one_however_large_the_difference(num_seeds: int) -> None:
    powers = statistics.power(np.geomspace(0.01, 1e9, 500), num_seeds)
    assert (np.diff(powers) >= -1e-7).all() and powers[-1] == 1


def test_without_a_difference_power_is_the_level() -> None:
    assert statistics.power(0.0, 5) == pytest.approx(0.05)


def test_how_far_a_spread_of_five_may_be_off() -> None:
    # chi-squared with 4 degrees of freedom: 11.143 and 0.4844 at 97.5 % and 2.5 %
    assert statistics.spread_factors(5) == pytest.approx(((4 / 11.143) ** 0.5, (4 / 0.4844) ** 0.5), rel=1e-3)
