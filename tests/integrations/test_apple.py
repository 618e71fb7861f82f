"""In a loop on Apple's GPUs, which have no float64; torch's device without numbers stands in for one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.optim import SGD, Adam, Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from lrlab.models import layer_groups
from lrlab.probes import AdamSnrProbe, GradientCosineProbe, GradientProbe, Probe, UpdateRatioProbe, WeightNormProbe
from lrlab.schedulers import ArticleLR, SignalScheduler, SlopeLR, SnrLR
from lrlab.schedulers.stationarity import squared_norms


class WithoutFloat64(TorchDispatchMode):
    """Refuses float64 on the device, and on the way from it; what comes over otherwise is 0.5 throughout."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        comes_over = operation.overloadpacket is torch.ops.aten._to_copy and args[0].device.type == "meta"
        if comes_over and kwargs.get("device") == torch.device("cpu"):
            if kwargs.get("dtype", args[0].dtype) != args[0].dtype:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
            return torch.full(args[0].shape, 0.5, dtype=args[0].dtype)
        result = operation(*args, **kwargs)
        if isinstance(result, Tensor) and result.device.type == "meta" and result.dtype == torch.float64:
            raise TypeError("the MPS framework doesn't support float64")
        return result


def train(make: Callable[[nn.Module, Optimizer], Any], num_steps: int) -> Any:
    with WithoutFloat64():
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)).to("meta")
        optimizer = Adam(model.parameters(), lr=1e-3, foreach=False)
        made = make(model, optimizer)
        for _ in range(num_steps):
            loss = model(torch.zeros(2, 4, device="meta")).sum()
            optimizer.zero_grad()
            loss.backward()
            made.observe(loss) if isinstance(made, SignalScheduler) else made.observe()
            optimizer.step()
            if isinstance(made, SignalScheduler):
                made.step()
        return made.take_decisions() if isinstance(made, SignalScheduler) else made.take()


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: ArticleLR(optimizer, check_every=5),
        lambda optimizer: SlopeLR(optimizer, window=10, check_every=5),
        lambda optimizer: SnrLR(optimizer, check_every=10, sample_every=2),
    ],
)
def test_a_rule_decides(make: Callable[[Optimizer], SignalScheduler]) -> None:
    assert train(lambda _, optimizer: make(optimizer), 12)


def test_norms_of_weights_are_of_the_precision_that_the_device_has() -> None:
    with FakeTensorMode():  # Apple's device itself, of which torch makes no tensors here but such
        on_apple, elsewhere = (
            squared_norms(SGD([nn.Parameter(torch.zeros(3, device=device))], lr=1.0)) for device in ("mps", "cpu")
        )
    assert (on_apple.dtype, elsewhere.dtype) == (torch.float32, torch.float64)


@pytest.mark.parametrize(
    "make",
    [
        lambda groups, _: GradientProbe(groups),
        lambda groups, _: WeightNormProbe(groups),
        lambda groups, _: GradientCosineProbe(groups),
        UpdateRatioProbe,
        AdamSnrProbe,
    ],
)
def test_a_probe_measures(make: Callable[..., Probe]) -> None:
    steps, values = train(lambda model, optimizer: make(layer_groups(model), optimizer), 3)
    assert len(steps) == len(values)
