from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrlab.report.curves import Curve, finite, settled, smooth, smoothing_window, thin

values_of_updates = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200)


def curve_of(values: list[float], *, every: int = 1) -> Curve:
    return Curve(np.arange(1, len(values) + 1, dtype=float) * every, np.array(values))


def slow_means(values: list[float], window: int) -> list[float]:
    return [math.fsum(values[max(0, end - window) : end]) / min(end, window) for end in range(1, len(values) + 1)]


@given(values_of_updates, st.integers(1, 250))
def test_smoothing_is_the_mean_of_the_last_values(values: list[float], window: int) -> None:
    smoothed = smooth(curve_of(values, every=25), window)

    assert smoothed.steps.tolist() == [25.0 * index for index in range(1, len(values) + 1)]
    np.testing.assert_allclose(smoothed.values, slow_means(values, window), rtol=1e-12, atol=1e-8)


def test_a_huge_value_is_forgotten_once_it_is_out_of_the_window() -> None:
    values = [0.1] * 5 + [1e30] + [0.1] * 10

    smoothed = smooth(curve_of(values), 3).values

    assert smoothed[4] == pytest.approx(0.1, rel=1e-15)
    assert smoothed[8:] == pytest.approx([0.1] * 8, rel=1e-15)  # a running sum would say 0.0 here


def test_smoothing_nothing_gives_nothing() -> None:
    assert len(smooth(curve_of([]), 10).values) == 0


def test_means_of_less_than_a_tenth_of_their_window_are_left_out_unless_there_are_no_others() -> None:
    curve = curve_of([1.0, 2.0, 3.0])

    assert settled(curve, 20).steps.tolist() == [3]
    assert settled(curve, 9).steps.tolist() == [1, 2, 3]
    assert settled(curve, 30).steps.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("num_values", "window"), [(0, 1), (79, 1), (80, 2), (200, 5), (399, 5), (400, 10), (2000, 50), (62_500, 1000)]
)
def test_the_window_is_about_a_fortieth_of_the_values(num_values: int, window: int) -> None:
    assert smoothing_window(num_values) == window


@given(values_of_updates, st.integers(1, 40), st.integers(1, 30))
def test_thinning_keeps_every_peak_of_every_stretch(values: list[float], num_buckets: int, every: int) -> None:
    curve = curve_of(values, every=every)
    end = curve.steps[-1]

    thinned = thin(curve, end=end, num_buckets=num_buckets)

    points = list(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))
    kept = list(zip(thinned.steps.tolist(), thinned.values.tolist(), strict=True))
    assert kept == [point for point in points if point in set(kept)]  # some of the points, in their order
    for bucket in range(num_buckets + 1):
        stretch = [point for point in points if math.floor(point[0] * (num_buckets / end)) == bucket]
        kept_here = [value for step, value in kept if math.floor(step * (num_buckets / end)) == bucket]
        assert len(kept_here) <= 4
        if stretch:
            values_here = [value for _, value in stretch]
            assert (min(kept_here), max(kept_here)) == (min(values_here), max(values_here))
            assert (kept_here[0], kept_here[-1]) == (values_here[0], values_here[-1])


def test_thinning_leaves_a_short_curve_as_it_is() -> None:
    curve = curve_of([3.0, 1.0, 2.0])

    assert thin(curve, end=3, num_buckets=1000).values.tolist() == [3.0, 1.0, 2.0]


def test_thinning_nothing_gives_nothing() -> None:
    assert len(thin(curve_of([]), end=10, num_buckets=5).steps) == 0


def test_what_is_not_finite_is_left_out() -> None:
    curve = finite((np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.5, math.inf, math.nan, 2.0])))

    assert [part.tolist() for part in curve] == [[1, 4], [0.5, 2.0]]
