"""Names become the right objects, and wrong names an explanation."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.utils._python_dispatch import TorchDispatchMode

from lrlab.config import AveragingConfig, ConfigError, ModelConfig, OptimizerConfig, parse_config
from lrlab.data import load_digits_data
from lrlab.experiments import Experiment
from lrlab.experiments.build import build_average, build_model, build_optimizer, update_average


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.zeros(1))


def test_a_models_weights_are_a_function_of_the_seed_and_the_global_stream_is_left_alone() -> None:
    torch.manual_seed(5)
    stream = torch.get_rng_state()
    models = [
        build_model(ModelConfig(width=2), num_classes=3, in_channels=1, seed=seed).state_dict() for seed in (7, 7, 8)
    ]
    assert torch.equal(stream, torch.get_rng_state())
    same, other = models[1]["linear.weight"], models[2]["linear.weight"]
    assert torch.equal(models[0]["linear.weight"], same)
    assert not torch.equal(same, other)


def test_optimizers_have_a_named_group_for_each_layer_group() -> None:
    optimizer = build_optimizer(OptimizerConfig(lr=0.5, weight_decay=0.25), {"a": [parameter()], "b": [parameter()]})
    assert isinstance(optimizer, Adam)
    assert [(group["name"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [
        ("a", 0.5, 0.25),
        ("b", 0.5, 0.25),
    ]


def test_adamw_and_sgd() -> None:
    assert isinstance(build_optimizer(OptimizerConfig(name="adamw"), {"a": [parameter()]}), AdamW)
    sgd = build_optimizer(OptimizerConfig(name="sgd"), {"a": [parameter()]})
    assert isinstance(sgd, SGD)
    assert sgd.param_groups[0]["momentum"] == 0.9
    assert build_optimizer(OptimizerConfig(name="sgd", momentum=0.0), {"a": [parameter()]}).defaults["momentum"] == 0.0
    assert not sgd.param_groups[0]["nesterov"]
    assert build_optimizer(OptimizerConfig(name="sgd", nesterov=True), {"a": [parameter()]}).defaults["nesterov"]


def test_an_average_is_the_one_of_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = build_average(AveragingConfig(decay=0.75), model)
    assert average is not None
    expected: dict[str, torch.Tensor] = {}
    for number in range(8):
        for name, tensor in model.named_parameters():
            with torch.no_grad():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
                weights = tensor.detach().double()
                expected[name] = 0.75 * expected[name] + 0.25 * weights if number else weights
        average.update_parameters(model)
        for name, tensor in expected.items():
            # float32 keeps 24 bits, and a few roundings of it add up
            torch.testing.assert_close(average.module.state_dict()[name].double(), tensor, rtol=1e-5, atol=1e-6)
    assert {"0.weight", "1.weight"} <= expected.keys()


class CountCopies(TorchDispatchMode):
    """Counts the tensors that are brought from the processor to the device, for each of which a GPU is waited for."""

    num_copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        self.num_copies += copies and result.is_meta and any(one.device.type == "cpu" for one in args)
        return result


def test_an_average_goes_on_as_torchs_does_and_waits_for_no_device() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    ours, theirs = (build_average(AveragingConfig(decay=0.75), model) for _ in range(2))
    assert ours is not None and theirs is not None
    for _ in range(4):
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.normal_()
        model(torch.randn(5, 3))  # which changes the statistics
        update_average(ours, model)
        theirs.update_parameters(model)
        for (name, found), expected in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            assert torch.equal(found, expected), name
    plain = nn.Linear(1, 1)  # without statistics
    average = build_average(AveragingConfig(decay=0.75), plain)
    assert average is not None
    for _ in range(2):
        update_average(average, plain)
    assert average.n_averaged == 2
    model.to("meta")  # a device that is not the processor, everywhere
    for average, num_copies in ((ours, 0), (theirs, 1)):
        average.module.to("meta")
        with CountCopies() as counter:
            update_average(average, model) if average is ours else average.update_parameters(model)
        assert counter.num_copies == num_copies


def test_no_decay_is_no_average() -> None:
    assert build_average(AveragingConfig(), nn.Linear(1, 1)) is None


def test_noise_needs_a_batch_of_two_parts() -> None:
    table = {"batch_size": 3, "model": {"width": 2}, "steps": 1, "telemetry": {"noise_every": 1}}
    with pytest.raises(ConfigError, match=r"telemetry.noise_every: .* batch_size must be at least 4, got 3"):
        Experiment(parse_config(table), data=load_digits_data())
