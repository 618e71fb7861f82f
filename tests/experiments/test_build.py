"""Names become the right objects, and wrong names an explanation."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam, AdamW, lr_scheduler

from lrlab.config import AveragingConfig, ConfigError, ModelConfig, OptimizerConfig, parse_config
from lrlab.experiments import preview_rates
from lrlab.experiments.build import build_average, build_model, build_optimizer, build_scheduler
from lrlab.schedulers import ArticleLR, PlateauLR


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.zeros(1))


def rates(schedule: dict[str, Any], num_steps: int = 6) -> list[float]:
    return preview_rates(parse_config({"schedule": schedule, "optimizer": {"lr": 1.0}}), num_steps=num_steps)


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


def test_no_decay_is_no_average() -> None:
    assert build_average(AveragingConfig(), nn.Linear(1, 1)) is None


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"name": "constant"}, [1.0] * 6),
        ({"name": "step", "step_size": 2, "factor": 0.5}, [1, 1, 0.5, 0.5, 0.25, 0.25]),
        ({"name": "linear"}, [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]),
        ({"name": "linear", "min_lr": 0.5}, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]),
        ({"name": "cosine"}, [1.0, 0.904508, 0.654508, 0.345492, 0.095492, 0.0]),
        ({"name": "wsd", "warmup_fraction": 0.34, "cooldown_fraction": 0.34, "cooldown_shape": "linear"},
         [0.5, 1, 1, 1, 0.5, 0]),
        ({"name": "torch:StepLR", "step_size": 2, "gamma": 0.5}, [1, 1, 0.5, 0.5, 0.25, 0.25]),
        ({"name": "torch:MultiStepLR", "milestones": [1, 3], "gamma": 0.5}, [1, 0.5, 0.5, 0.25, 0.25, 0.25]),
    ],
)  # fmt: skip
def test_schedules_by_name(schedule: dict[str, Any], expected: list[float]) -> None:
    assert rates(schedule) == pytest.approx(expected, abs=1e-6)


TORCHS_OWN: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [2, 4]},
    "ConstantLR": {},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {"total_iters": 6},
    "CosineAnnealingLR": {"T_max": 6},
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "CyclicLR": {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 3},
    "OneCycleLR": {"max_lr": 1.0, "total_steps": 10},
    "ReduceLROnPlateau": {"check_every": 2, "patience": 0},
}
NOT_FROM_A_FILE = {"LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"}


def test_the_list_of_torchs_own_schedulers_is_whole() -> None:
    ours = {name for name in dir(lr_scheduler) if isinstance(getattr(lr_scheduler, name), type)}
    known = {
        name
        for name in ours
        if issubclass(getattr(lr_scheduler, name), lr_scheduler.LRScheduler) and not name.startswith("_")
    } - {"LRScheduler"}
    assert known == set(TORCHS_OWN) | NOT_FROM_A_FILE


@pytest.mark.parametrize("name", sorted(TORCHS_OWN.keys() - {"ReduceLROnPlateau"}))
def test_torchs_own_schedulers_are_torchs(name: str) -> None:
    options = TORCHS_OWN[name]
    optimizer = Adam([parameter()], lr=1.0)
    reference = getattr(lr_scheduler, name)(optimizer, **options)
    expected = []
    for _ in range(6):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates({"name": f"torch:{name}", **options}) == expected


def build(schedule: dict[str, Any]) -> lr_scheduler.LRScheduler:
    return build_scheduler(parse_config({"schedule": schedule}), Adam([parameter()], lr=1e-3), num_steps=100)


def test_reduce_on_plateau_is_fed_by_the_training_loss() -> None:
    scheduler = build({"name": "torch:ReduceLROnPlateau", **TORCHS_OWN["ReduceLROnPlateau"]})
    assert isinstance(scheduler, PlateauLR)
    assert scheduler.check_every == 2


def test_the_article_schedule_takes_all_its_keys() -> None:
    keys = {"multiplier": 0.2, "check_every": 7, "factor": 0.5, "min_lr": 1e-4, "reset_optimizer": False}
    scheduler = build({"name": "article", **keys})
    assert isinstance(scheduler, ArticleLR)
    assert {key: getattr(scheduler, key) for key in keys} == keys


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"name": "torch:StpLR"}, r"Unknown scheduler 'torch:StpLR'.* Did you mean 'torch:StepLR'\?"),
        ({"name": "torch:LambdaLR"}, "torch:LambdaLR takes functions or schedulers"),
        ({"name": "torch:StepLR"}, "torch:StepLR: TypeError: .*step_size.*\\. Its keys, in updates: step_size, gamma"),
        (
            {"name": "torch:StepLR", "stepsize": 3},
            r"Unknown key 'schedule.stepsize'.* Did you mean 'schedule.step_size'\?",
        ),
        ({"name": "torch:OneCycleLR", "max_lr": 1.0, "total_steps": 5}, "torch:OneCycleLR: .*Tried to step"),
        ({"name": "torch:StepLR", "step_size": 0}, "torch:StepLR: ZeroDivisionError"),
        ({"name": "torch:StepLR", "step_size": "abc"}, "torch:StepLR: TypeError"),
        ({"name": "torch:ReduceLROnPlateau", "min_lr": "abc"}, "torch:ReduceLROnPlateau: "),
        ({"name": "torch:Optimizer"}, "Unknown scheduler 'torch:Optimizer'"),
    ],
)
def test_what_torch_does_not_have_is_explained(schedule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(schedule)


@given(warmup=st.floats(0, 0.99), share=st.floats(0, 1), num_steps=st.integers(1, 50))
def test_any_wsd_whose_shares_fit_can_be_built(warmup: float, share: float, num_steps: int) -> None:
    cooldown = share * (1 - warmup)
    rates({"name": "wsd", "warmup_fraction": warmup, "cooldown_fraction": min(cooldown, 1 - warmup)}, num_steps)


def test_a_schedule_that_listens_has_no_preview() -> None:
    with pytest.raises(
        ConfigError, match="'article' decides from the loss of a run, so there is no rate to know before"
    ):
        rates({"name": "article"})
