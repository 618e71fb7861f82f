"""A sweep suggests a tenth of the rate with the least loss, ends when it diverges, and says when it shows nothing."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from lrlab.training import RangeTest, RateRange, Sweep, SweepRecorder
from lrlab.training.sweep import smooth, suggest

RATES = RateRange(1e-6, 10.0, 141)  # 20 updates a decade; 7 losses on either side are averaged


def curve(*, least: float = 1e-2, noise: float = 0.0, seed: int = 0) -> list[float]:
    """A loss of 3 that falls to 1 at the rate `least` and rises again; a bell over the logarithm of the rate."""
    decades = np.log10(np.array(RATES.rates()) / least)
    return list(3.0 - 2.0 * np.exp(-(decades**2)) + noise * np.random.default_rng(seed).standard_normal(len(decades)))


def record(losses: list[float], rates: RateRange = RATES) -> Sweep:
    recorder = SweepRecorder(rates, seed=3)
    for loss in losses:
        if recorder.add(loss):
            break
    return recorder.sweep()


def test_rates_grow_by_the_same_factor() -> None:
    rates = RateRange(1e-4, 1.0, 21)
    assert rates.rates()[::5] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    assert rates.rates()[0] == 1e-4 and rates.rates()[-1] == 1.0
    assert all(after / before == pytest.approx(rates.factor) for before, after in pairwise(rates.rates()))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1e-3, 1e-3, 100), "needs 0 < start < end, both finite, got 0.001 and 0.001"),
        ((1.0, 1e-3, 100), "got 1 and 0.001"),
        ((0.0, 1.0, 100), "got 0 and 1"),
        ((1e-6, math.inf, 100), "got 1e-06 and inf"),
        ((math.nan, 1.0, 100), "got nan and 1"),
        ((1e-6, 1.0, 19), "needs at least 20 updates, got 19"),
    ],
)
def test_a_range_that_cannot_be_swept_is_refused(values: tuple[float, float, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RateRange(*values)


def test_a_smoothed_loss_is_the_mean_of_as_many_before_as_after() -> None:
    losses = np.array([5.0, 1.0, 3.0, 8.0, 3.0, 2.0])
    expected = [5.0, (5 + 1 + 3) / 3, (5 + 1 + 3 + 8 + 3) / 5, (1 + 3 + 8 + 3 + 2) / 5, (8 + 3 + 2) / 3, 2.0]
    assert list(smooth(losses, 2)) == pytest.approx(expected)


def test_smoothing_does_not_lag_behind() -> None:
    hill = -np.abs(np.arange(101.0) - 40)  # its peak is at 40
    assert smooth(hill, 10).argmax() == 40


@pytest.mark.parametrize("least", [3e-4, 1e-2, 0.2])
def test_the_suggestion_is_a_tenth_of_the_rate_with_the_least_loss(least: float) -> None:
    found = record(curve(least=least))
    assert found.suggestion == pytest.approx(least / 10, rel=0.06)  # half an update
    assert found.reason == ""
    assert found.diverged_at is None
    assert found.seed == 3


def test_under_noise_it_stays_where_it_is_without() -> None:
    true = record(curve()).suggestion
    assert true is not None
    found = [record(curve(noise=0.1, seed=seed)).suggestion for seed in range(50)]
    assert all(rate is not None and true / 2 < rate < true * 2 for rate in found)


@pytest.mark.parametrize("losses", [[1.0] * 200, list(np.linspace(1.0, 1.5, 200))], ids=["flat", "rising"])
def test_a_loss_that_never_fell_suggests_nothing(losses: list[float]) -> None:
    found = record(losses)
    assert found.suggestion is None
    assert found.reason == "the loss never fell by more than its noise: try more updates, or other rates"


def test_noise_alone_suggests_nothing() -> None:
    num_found = 0
    for seed in range(200):
        losses = np.random.default_rng(seed).normal(2.3, 0.1, 141)
        num_found += record(list(losses)).suggestion is not None
    assert num_found <= 4  # 2 %


def test_a_loss_that_still_falls_at_the_end_suggests_nothing() -> None:
    found = record(list(np.linspace(2.5, 0.5, 141)))
    assert (found.suggestion, found.reason) == (None, "the loss still fell at the end: end with a higher rate")


def test_a_loss_that_fell_until_it_diverged_suggests_a_rate() -> None:
    losses = [*np.linspace(2.5, 0.5, 100), math.nan]
    found = record(losses)
    assert found.diverged_at == RATES.rates()[100]
    assert found.suggestion == pytest.approx(RATES.rates()[92] / 10)  # the last with 7 losses after it
    assert len(found.losses) == len(found.lrs) == len(found.smoothed) == 100


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_sweep_that_diverges_at_once_suggests_nothing(bad: float) -> None:
    found = record([bad])
    assert (found.suggestion, found.diverged_at, found.losses) == (None, 1e-6, ())
    assert found.reason == "it diverged almost at once: start at a lower rate"


def test_it_ends_once_the_mean_of_the_last_losses_is_four_times_the_least_and_above_the_first() -> None:
    # 8 losses are averaged: after 8 - k of 1.0 the mean of the last is 1 + (k / 8) * 9
    losses = [*[2.0] * 20, *[1.0] * 30, *[10.0] * 50]
    found = record(losses)
    assert len(found.losses) == 53  # k = 3: 1 + 27 / 8 = 4.375 > 4
    assert found.diverged_at == RATES.rates()[52]


def test_a_loss_near_zero_is_not_diverged_by_a_bump_below_its_beginning() -> None:
    losses = [*[2.0] * 20, *[0.001] * 30, *[1.0] * 91]
    assert record(losses).diverged_at is None


def test_the_suggestion_of_several_is_their_median_in_the_logarithm() -> None:
    def swept(suggestion: float | None) -> Sweep:
        return Sweep(0, (), (), (), None, suggestion)

    found = RangeTest(RATES, tuple(map(swept, (1e-2, None, 1e-4, 1e-3))))
    assert found.suggestion == pytest.approx(1e-3)
    assert found.suggestions == [1e-4, 1e-3, 1e-2]
    assert RangeTest(RATES, (swept(1e-2), swept(1e-4))).suggestion == pytest.approx(1e-3)
    document: dict[str, Any] = RangeTest(RATES, (swept(None),)).document()
    assert (document["suggestion"], document["least"], document["largest"]) == (None, None, None)


@pytest.mark.parametrize(("fall", "is_seen"), [(0.18, False), (0.26, True)])
def test_a_fall_counts_from_four_standard_errors_on(fall: float, is_seen: bool) -> None:
    # losses alternate by 0.1 about their mean: 4 * sqrt(2 / 15) * 1.4826 * 0.1 = 0.217
    means = np.concatenate([np.full(60, 2.0), np.full(40, 2.0 - fall), np.full(41, 2.0)])
    losses = means + 0.1 * (-1.0) ** np.arange(141)
    assert (suggest(np.array(RATES.rates()), losses, 7, diverged=False)[0] is not None) is is_seen
