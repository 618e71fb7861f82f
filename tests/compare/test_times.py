"""Time to a target: medians where some never get there, races seed by seed, and AlgoPerf's profile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lrlab.compare.measures import OfEvaluations
from lrlab.compare.times import (
    Median,
    Race,
    Time,
    median_time,
    performance_ratios,
    performance_score,
    profiles,
    race,
    times_to_target,
)
from written_runs import evaluation, write_study

ACCURACY = OfEvaluations("test", "accuracy")
LOSS = OfEvaluations("test", "loss")
INF = np.inf
NEVER = Time(False, None, True, INF, INF)


def all_reached(values: list[float]) -> Median:
    return median_time(np.array(values), np.ones(len(values), bool))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=11).filter(lambda values: len(values) % 2 == 1))
def test_where_all_get_there_the_median_is_the_median(values: list[int]) -> None:
    assert all_reached([float(value) for value in values]).value == np.median(values)


def test_runs_that_never_get_there_count_as_later_than_all() -> None:
    found = median_time(np.array([10.0, 20.0, 30.0, 40.0, 40.0]), np.array([True, True, True, False, False]))
    assert found.value == 30
    found = median_time(np.array([10.0, 20.0, 40.0, 40.0, 40.0]), np.array([True, True, False, False, False]))
    assert found == Median(None, found.low, None)
    assert found.low == 10  # more than half may well get there


def test_a_run_cut_short_counts_as_long_as_it_went_kaplan_and_meier_by_hand() -> None:
    # at 10 one of five gets there: 4/5 are left. At 15 one is cut short. At 20 one of three: 4/5 * 2/3 = 0.53.
    # At 30 one of two: 0.27, the first at or below one half. Without the one cut short the median would be 20 or 30.
    values, reached = np.array([10.0, 15.0, 20.0, 30.0, 40.0]), np.array([True, False, True, True, False])
    assert median_time(values, reached).value == 30


def test_a_run_cut_short_before_any_gets_there_does_not_pull_the_interval_to_itself() -> None:
    values, reached = np.array([50.0, 100.0, 110.0, 120.0, 130.0, 140.0]), np.array([False, *[True] * 5])
    found, without = median_time(values, reached), median_time(values[1:], reached[1:])
    assert (found.value, found.low, found.high) == (without.value, without.low, without.high)
    assert found.low is not None and found.low >= 100


def test_a_diverged_run_never_gets_there_however_short_it_was() -> None:
    reached = np.array([True, True, False])
    assert median_time(np.array([10.0, 20.0, INF]), reached).value == 20
    assert median_time(np.array([10.0, INF, INF]), np.array([True, False, False])).value is None


def test_the_interval_is_where_scipys_band_crosses_one_half() -> None:
    values = np.random.default_rng(0).lognormal(size=21)
    with pytest.warns(RuntimeWarning, match="undefined at some observations"):  # at the last, where none is left
        band = stats.ecdf(values).sf.confidence_interval(0.95, method="log-log")
    quantiles = np.sort(values)
    found = all_reached(list(values))
    assert found.low == quantiles[np.flatnonzero(band.low.probabilities <= 0.5)[0]]
    assert found.high == quantiles[np.flatnonzero(band.high.probabilities <= 0.5)[0]]
    assert found.value is not None and found.low < found.value < found.high


def test_none_reached_or_no_seconds_is_no_median() -> None:
    assert median_time(np.array([10.0, 10.0]), np.zeros(2, bool)) == Median(None, None, None)
    assert median_time(np.array([10.0, np.nan]), np.ones(2, bool)) == Median(None, None, None)


@pytest.mark.parametrize("num_runs", [1, 2, 4, 5])
def test_few_runs_have_a_median_and_no_interval(num_runs: int) -> None:
    found = all_reached([10.0 * (1 + run) for run in range(num_runs)])
    assert found.value is not None
    assert (found.low is None) == (num_runs < 5)


def reached(updates: float) -> Time:
    return Time(True, updates, True, updates, updates)


def not_within(updates: float) -> Time:
    return Time(False, None, False, updates, updates)


def test_a_race_by_hand() -> None:
    one = [reached(10), reached(20), reached(30), not_within(50), not_within(50), reached(40), not_within(20)]
    other = [reached(20), reached(20), not_within(50), reached(50), not_within(50), not_within(30), reached(30)]
    # first, together, first, second, neither got there, and twice a run that was cut short too early to tell
    assert race(one, other) == Race(first=2, second=1, neither=2, unknown=2, p=1.0)
    assert race([reached(1)] * 6, [reached(2)] * 6).p == pytest.approx(2 / 2**6)
    assert race([not_within(5)], [not_within(5)]).p is None
    assert race([reached(30)], [not_within(INF)]) == Race(1, 0, 0, 0, 1.0)


def test_a_target_is_reached_at_the_first_evaluation_that_shows_it(tmp_path: Path) -> None:
    (run,) = write_study(tmp_path, {"a": {0: [0.2, 0.6, 0.5, 0.9]}})
    assert times_to_target([run], ACCURACY, 0.6) == [Time(True, 20, True, 20, 10)]
    assert times_to_target([run], LOSS, 0.15) == [Time(True, 40, True, 40, 20)]
    assert times_to_target([run], ACCURACY, 0.95) == [NEVER]


def test_a_run_that_ended_without_it_never_gets_there_whoever_went_on(tmp_path: Path) -> None:
    runs = write_study(tmp_path, {"short": {0: [0.2, 0.3]}, "long": {0: [0.2, 0.3, 0.4, 0.9]}})
    assert times_to_target(runs, ACCURACY, 0.9) == [NEVER, Time(True, 40, True, 40, 20)]


def test_a_run_that_diverged_may_have_been_at_the_target_before(tmp_path: Path) -> None:
    early, never = write_study(
        tmp_path,
        {"a": {0: {"accuracies": [0.7], "status": "diverged"}, 1: {"accuracies": [0.1], "status": "diverged"}}},
    )
    found = times_to_target([early, never], ACCURACY, 0.6)
    assert found == [Time(True, 10, True, 10, 5), NEVER]


def test_runs_are_looked_at_alike(tmp_path: Path) -> None:
    rising = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    often, seldom, longer, short = write_study(
        tmp_path,
        {
            "a": {
                0: rising,
                1: {"accuracies": rising[1::2], "every": 20},
                2: {"accuracies": [*rising[3::4], 0.9, 0.95], "every": 40},
                3: {"accuracies": rising[:3], "status": "preempted"},
            }
        },
    )
    one, other = times_to_target([often, seldom], ACCURACY, 0.5)
    assert (one.updates, other.updates) == (60, 60)  # at 50 one was not looked at
    assert times_to_target([often], ACCURACY, 0.5)[0].updates == 50
    # from 120 on only one of them goes on; what was cut short at 30 does not keep the others from being looked at
    found = times_to_target([often, longer, short], ACCURACY, 0.85)
    assert found == [NEVER, Time(True, 120, True, 120, 60), Time(False, None, False, 0.0, 0.0)]


def test_what_was_shown_where_the_others_were_not_looked_at_is_shown_and_has_no_time(tmp_path: Path) -> None:
    tens, thirties, other = write_study(
        tmp_path,
        {
            "a": {
                0: [0.1, 0.9],
                1: {"accuracies": [0.5, 0.6, 0.9], "every": 30},
                2: {"accuracies": [0.1, 0.2, 0.9, 0.3], "every": 15},
            }
        },
    )
    # nobody but the third is looked at at 45; the first ends at 20, where the others are not looked at
    found = times_to_target([tens, thirties, other], ACCURACY, 0.8)
    assert found == [
        Time(False, 20, False, 0, 0),
        Time(True, 90, True, 90, 45),
        Time(False, 45, False, 60, 30),
    ]
    assert race(found[:1], found[1:2]) == Race(0, 0, 0, 1, None)
    assert race(found[:1], found[2:]) == Race(0, 0, 0, 1, None), "both got there, and nobody knows who was first"


def test_an_evaluation_counts_by_its_own_figure() -> None:
    mirrored = evaluation(10, 0.5, mirror={"accuracy": 0.7})
    assert OfEvaluations("test", "accuracy_mirror").reaches(mirrored, 0.7)
    assert not OfEvaluations("test", "accuracy_mirror").reaches(evaluation(10, 0.9), 0.7)
    assert not OfEvaluations("validation", "accuracy").reaches(mirrored, 0.1)
    assert not LOSS.reaches(evaluation(10, 0.5, loss=None), 10.0)


RATIOS = np.array([[1.0, 1.5, 4.0], [2.0, 1.0, INF]])


def test_ratios_by_hand() -> None:
    updates = np.array([[10.0, 30.0, 81.0, INF], [25.0, 20.0, 20.0, INF]])
    assert performance_ratios(updates).tolist() == [[1.0, 1.5, INF, INF], [2.5, 1.0, 1.0, INF]]


def test_two_that_are_there_before_the_first_update_tie() -> None:
    assert performance_ratios(np.array([[0.0], [0.0], [10.0]])).tolist() == [[1.0], [1.0], [INF]]


def test_the_score_is_algoperfs_area_under_the_profile() -> None:
    # by hand: (3 + 2.5 + 0) / 3 / 3 and (2 + 3 + 0) / 3 / 3
    assert performance_score(RATIOS) == pytest.approx([5.5 / 9, 5 / 9])
    # and as AlgoPerf computes it, by trapezoids on points from 1 to 4, many more than its hundred
    points = np.linspace(1.0, 4.0, 100_001)
    profile = (RATIOS[:, None, :] <= points[:, None]).mean(axis=-1)
    assert performance_score(RATIOS) == pytest.approx(np.trapezoid(profile, points, axis=-1) / 3, abs=1e-4)


def test_a_profile_takes_the_median_over_seeds_and_its_interval_over_them() -> None:
    first = {"quick": np.array([10.0, 10, 10, 10, INF]), "slow": np.array([20.0, 20, 20, 20, 20])}
    second = {"quick": np.array([5.0] * 5), "slow": np.array([INF, INF, INF, 5, 5])}
    quick, slow = profiles({"one": first, "two": second})
    assert quick.ratios == {"one": 1.0, "two": 1.0} and quick.score == 1.0
    assert slow.ratios == {"one": 2.0, "two": None} and slow.score == pytest.approx((2 / 3 + 0) / 2)
    assert slow.low is not None and slow.high is not None
    assert slow.low <= slow.score < slow.high  # in some draws it does get there in the second task
    few = {"quick": np.array([10.0]), "slow": np.array([20.0])}
    assert profiles({"one": few, "two": few})[0].low is None
