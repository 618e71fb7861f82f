"""Simulated losses have the noise that they should, and a rule's figures are those of its decisions."""

import pytest
import torch

from lrlab.schedulers import ArticleLR, SlopeLR, SnrLR
from lrlab.schedulers.simulate import Noise, calibrate


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_noise_has_the_std_and_the_correlation_that_it_says(correlation: float) -> None:
    drawn = Noise(0.3, correlation).draw(50, 2_000, torch.Generator().manual_seed(0))
    assert drawn.shape == (50, 2_000) and drawn.dtype == torch.float64
    # the first value of each trace is as wide as the others
    assert float(drawn[:, 0].std()) == pytest.approx(0.3, rel=0.3)
    assert float(drawn.std()) == pytest.approx(0.3, rel=0.05)
    found = (drawn[:, 1:] * drawn[:, :-1]).mean() / drawn.square().mean()
    assert float(found) == pytest.approx(correlation, abs=0.02)


def test_the_slope_test_at_its_boundary_keeps_its_level() -> None:
    found = calibrate(lambda optimizer: SlopeLR(optimizer, window=40), num_traces=50)
    assert (found.window, found.num_traces) == (40, 50)
    assert 0.0 < found.flat_share < 0.05  # 500 windows
    assert found.early_share == 0.0


def test_with_a_least_progress_a_plateau_is_found_within_few_windows() -> None:
    found = calibrate(
        lambda optimizer: SlopeLR(optimizer, window=40, min_progress=0.1), noise=Noise(0.02), num_traces=50
    )
    assert found.early_share == 0.0 and found.never_share == 0.0
    assert found.delays is not None
    low, median, high = found.delays
    assert 0 < low <= median <= high < 2.0


def test_correlated_noise_does_not_make_it_fire_more_often() -> None:
    found = calibrate(lambda optimizer: SlopeLR(optimizer, window=100), noise=Noise(0.3, 0.6), num_traces=50)
    assert found.flat_share < 0.07


def test_dlibs_rule_fires_on_most_windows_of_a_flat_loss() -> None:
    found = calibrate(lambda optimizer: SlopeLR(optimizer, test="dlib", window=100), num_traces=5)
    assert found.flat_share > 0.4


def test_what_fires_at_every_look_fires_in_every_window_and_early() -> None:
    found = calibrate(lambda optimizer: ArticleLR(optimizer, multiplier=1e9, check_every=10), num_traces=5)
    assert (found.flat_share, found.early_share, found.never_share, found.delays) == (1.0, 1.0, 0.0, None)


def test_what_never_fires_never_does() -> None:
    found = calibrate(lambda optimizer: SlopeLR(optimizer, window=20, level=1e-9), num_traces=5)
    assert (found.flat_share, found.early_share, found.never_share, found.delays) == (0.0, 0.0, 1.0, None)


def test_the_same_seed_gives_the_same_figures() -> None:
    one, same, other = (
        calibrate(lambda optimizer: SlopeLR(optimizer, window=20, min_progress=0.1), num_traces=20, seed=seed)
        for seed in (0, 0, 1)
    )
    assert one == same != other


def test_a_rule_that_reads_no_loss_has_no_such_figures() -> None:
    with pytest.raises((RuntimeError, ValueError), match="SnrLR"):
        calibrate(SnrLR, num_traces=1)


@pytest.mark.parametrize("options", [{"std": -0.1}, {"correlation": 1.0}, {"correlation": -0.1}])
def test_impossible_noise_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Noise: std must be >= 0"):
        Noise(**options)
