"""GreedyLR against Hugging Face's own, and a trajectory written by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD

from lrlab.schedulers import GreedyLR


def sgd(*rates: float) -> SGD:
    return SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def our_rates(optimizer: SGD, means: list[float], **options: Any) -> list[list[float]]:
    """Rates after each stretch of two losses with such a mean."""
    scheduler = GreedyLR(optimizer, check_every=2, **options)
    seen = []
    for mean in means:
        scheduler.replay(torch.tensor([mean - 0.125, mean + 0.125], dtype=torch.float64))
        seen.append([group["lr"] for group in optimizer.param_groups])
    return seen


@given(
    seed=st.integers(0, 1000),
    options=st.fixed_dictionaries(
        {
            "patience": st.integers(0, 3),
            "cooldown": st.integers(0, 3),
            "warmup": st.integers(0, 3),
            "factor": st.sampled_from([0.5, 0.9]),
            "threshold": st.sampled_from([0.0, 0.125]),
            "threshold_mode": st.sampled_from(["abs", "rel"]),
            "reset_start": st.integers(1, 4),
        }
    ),
)
@settings(deadline=None, max_examples=100)
def test_rates_are_those_of_hugging_face(seed: int, options: dict[str, Any]) -> None:
    optimization = pytest.importorskip("transformers.optimization", reason="needs lrlab[transformers]")
    generator = np.random.default_rng(seed)
    # eighths, so that the mean of a stretch is exact
    means = (generator.integers(0, 40, 80) / 8 + np.repeat([8, 0, 4, 4], 20)).tolist()
    theirs = sgd(0.5, 0.25)
    reference = optimization.GreedyLR(theirs, min_lr=0.05, max_lr=1.0, **options)
    expected = []
    for mean in means:
        reference.step(mean)
        expected.append([group["lr"] for group in theirs.param_groups])
    assert our_rates(sgd(0.5, 0.25), means, min_lr=0.05, max_lr=1.0, **options) == expected


def test_a_trajectory_by_hand() -> None:
    means = [4.0, 3.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    # good, good -> raise to the ceiling; good, then bad, bad -> halve; twice
    rates = our_rates(sgd(0.25), means, patience=1, factor=0.5, max_lr=0.375)
    assert [row[0] for row in rates] == [0.25, 0.375, 0.375, 0.375, 0.1875, 0.1875, 0.09375]


def test_without_a_ceiling_it_never_goes_above_where_it_began() -> None:
    rates = our_rates(sgd(0.5, 0.25), [float(mean) for mean in range(40, 0, -1)], patience=0, factor=0.5)
    assert rates[-1] == [0.5, 0.5]  # the highest of the initial rates


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 1.0}, r"factor must be in \(0, 1\), got 1.0"),
        ({"patience": -1}, "patience must be >= 0, got -1"),
        ({"threshold_mode": "x"}, 'threshold_mode must be "rel" or "abs", got x'),
        ({"max_lr": 1e-7}, "max_lr must be above min_lr = 1e-06, got 1e-07"),
        ({"reset_start": 0}, "reset_start must be >= 1, got 0"),
    ],
)
def test_impossible_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GreedyLR(sgd(0.1), **options)


def test_a_rate_that_is_above_the_ceiling_already_is_left_alone_by_a_raise() -> None:
    low, high = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [low], "lr": 0.1}, {"params": [high], "lr": 5.0}], lr=1.0)
    rule = GreedyLR(optimizer, check_every=1, patience=0, factor=0.5, max_lr=1.0, warmup=0, cooldown=0)
    for loss in (3.0, 2.0):
        optimizer.step()
        rule.step(loss)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(0.4), 5.0]
