"""Whose moments SnrLR and AdamSnrProbe take: refused before any training, or at the first sign of others."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, SparseAdam

from lrlab.moments import moment_sums
from lrlab.probes import AdamSnrProbe
from lrlab.schedulers import SnrLR


class Lion(Optimizer):
    """An optimizer that has betas, and one moment alone."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        super().__init__(params, {"lr": 0.1, "betas": (0.9, 0.99)})

    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["exp_avg"] = torch.zeros_like(parameter)


def read_by_the_rule(optimizer: Optimizer) -> Callable[[], None]:
    return SnrLR(optimizer, check_every=5, sample_every=1).step


def read_by_the_probe(optimizer: Optimizer) -> Callable[[], None]:
    return AdamSnrProbe({"all": optimizer.param_groups[0]["params"]}, optimizer).observe


READERS = pytest.mark.parametrize("reader", [read_by_the_rule, read_by_the_probe])


def weights() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3))]


@READERS
@pytest.mark.parametrize("kind", [Adam, AdamW, NAdam, RAdam])
def test_adam_and_its_kin_are_taken(
    kind: type[Adam] | type[NAdam] | type[RAdam], reader: Callable[[Optimizer], Callable[[], None]]
) -> None:
    optimizer = kind(weights())
    read = reader(optimizer)
    for _ in range(3):
        optimizer.param_groups[0]["params"][0].grad = torch.ones(3)
        optimizer.step()
        read()


@READERS
@pytest.mark.parametrize("kind", [SGD, Adamax, SparseAdam])
def test_one_without_such_moments_is_refused_when_it_is_given(
    kind: type[SGD] | type[Adamax] | type[SparseAdam], reader: Callable[[Optimizer], Callable[[], None]]
) -> None:
    message = f"it needs Adam's moments, which {kind.__name__} does not keep. Use Adam, AdamW, NAdam or RAdam"
    with pytest.raises(ValueError, match=message):
        reader(kind(weights()))


@READERS
def test_a_first_moment_that_averages_nothing_is_refused(reader: Callable[[Optimizer], Callable[[], None]]) -> None:
    with pytest.raises(ValueError, match=r"beta1 must be in \(0, 1\), got 0"):
        reader(Adam(weights(), betas=(0.0, 0.999)))


@READERS
def test_one_that_nobody_knows_is_refused_once_its_state_is_seen(
    reader: Callable[[Optimizer], Callable[[], None]],
) -> None:
    optimizer = Lion(weights())
    read = reader(optimizer)
    optimizer.step()
    with pytest.raises(ValueError, match="which Lion does not keep. Use Adam"):
        read()
    with pytest.raises(ValueError, match="which Lion does not keep. Use Adam"):
        reader(optimizer)


def test_sums_of_long_tensors_keep_their_digits() -> None:
    torch.manual_seed(0)
    state = {"exp_avg": torch.rand(8_000_000), "exp_avg_sq": torch.rand(8_000_000)}
    squares, sums = moment_sums([state])
    assert float(squares) == pytest.approx(float(state["exp_avg"].double().square().sum()), rel=1e-5)
    assert float(sums) == pytest.approx(float(state["exp_avg_sq"].double().sum()), rel=1e-5)
