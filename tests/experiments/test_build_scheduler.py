"""Names of schedules become the right objects, and wrong names an explanation."""

import inspect
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam, AdamW, lr_scheduler

from lrlab.config import SCHEDULES, ConfigError, parse_config
from lrlab.config.schedules import OWN_RATES
from lrlab.experiments import preview_rates
from lrlab.experiments.build import build_optimizer
from lrlab.experiments.build_scheduler import RULES, build_scheduler
from lrlab.schedulers import LayerwiseLR, PhasesLR, PlateauLR, SlopeLR


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.zeros(1))


def rates(schedule: dict[str, Any], num_steps: int = 6, optimizer: str = "adam", lr: float = 1.0) -> list[float]:
    config = parse_config({"schedule": schedule, "optimizer": {"name": optimizer, "lr": lr}})
    return preview_rates(config, num_steps=num_steps)["linear"]


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
}
NOT_FROM_A_FILE = {"LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau"}


def test_the_list_of_torchs_own_schedulers_is_whole() -> None:
    ours = {name for name in dir(lr_scheduler) if isinstance(getattr(lr_scheduler, name), type)}
    known = {
        name
        for name in ours
        if issubclass(getattr(lr_scheduler, name), lr_scheduler.LRScheduler) and not name.startswith("_")
    } - {"LRScheduler"}
    assert known == set(TORCHS_OWN) | NOT_FROM_A_FILE


@pytest.mark.filterwarnings("ignore:optimizer.lr = 1 has no effect")
@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
@pytest.mark.parametrize("name", sorted(TORCHS_OWN))
def test_torchs_own_schedulers_are_torchs_with_every_optimizer(
    name: str, kind: type[SGD] | type[Adam] | type[AdamW]
) -> None:
    options = TORCHS_OWN[name]
    # as build_optimizer makes them: CyclicLR looks for a momentum
    optimizer = SGD([parameter()], lr=1.0, momentum=0.9) if kind is SGD else kind([parameter()], lr=1.0)
    reference = getattr(lr_scheduler, name)(optimizer, **options)
    expected = []
    for _ in range(6):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates({"name": f"torch:{name}", **options}, optimizer=kind.__name__.lower()) == expected


@pytest.mark.filterwarnings("ignore:optimizer.lr = .* has no effect")
@pytest.mark.parametrize("name", sorted(TORCHS_OWN))
def test_those_of_torchs_with_rates_of_their_own_are_known(name: str) -> None:
    schedule = {"name": f"torch:{name}", **TORCHS_OWN[name]}
    assert (rates(schedule, lr=0.5) == rates(schedule, lr=0.25)) == (schedule["name"] in OWN_RATES)


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_a_rate_that_has_no_effect_is_warned_of_where_it_was_asked_for(name: str) -> None:
    schedule = {"name": f"torch:{name}", **TORCHS_OWN[name]}
    with pytest.warns(UserWarning, match=f"optimizer.lr = 0.5 has no effect: schedule 'torch:{name}' has rates of its"):
        rates(schedule, lr=0.5)
    rates(schedule, lr=1e-3)  # the default: nobody asked for it


def build(schedule: dict[str, Any]) -> lr_scheduler.LRScheduler:
    return build_scheduler(parse_config({"schedule": schedule}), Adam([parameter()], lr=1e-3), num_steps=100)


SETTINGS: dict[str, dict[str, Any]] = {
    "article": {"multiplier": 0.2, "check_every": 7, "factor": 0.5, "min_lr": 1e-4, "reset_optimizer": False},
    "slope": {
        "test": "t", "window": 50, "check_every": 10, "level": 0.1, "min_progress": 0.02, "forget": 30, "factor": 0.5,
        "min_lr": 1e-4,
    },
    "snr": {"check_every": 50, "sample_every": 5, "min_signal": 0.1, "level": 0.1, "factor": 0.5, "min_lr": 1e-4},
    "stationarity": {
        "check_every": 50, "sample_every": 5, "min_samples": 22, "leak_ratio": 3, "level": 0.1, "factor": 0.5,
        "min_lr": 1e-4,
    },
    "greedy": {
        "check_every": 5, "factor": 0.5, "patience": 3, "threshold": 0.1, "threshold_mode": "rel", "cooldown": 2,
        "warmup": 4, "min_lr": 1e-4, "max_lr": 0.5, "reset_start": 6,
    },
    "plateau": {"check_every": 5, "factor": 0.5, "min_lr": 1e-4},
}  # fmt: skip
"""Every setting of every rule, none at its default; those of plateau are torch's own and kept by it."""


@pytest.mark.parametrize("name", RULES)
def test_a_rule_takes_all_its_keys(name: str) -> None:
    scheduler = build({"name": name, **SETTINGS[name]})
    assert type(scheduler) is RULES[name]
    assert {key: getattr(scheduler, key) for key in SETTINGS[name]} == SETTINGS[name]


def test_plateau_hands_the_rest_of_its_keys_to_torchs() -> None:
    keys = {"patience": 3, "threshold": 0.1, "threshold_mode": "abs", "cooldown": 2}
    scheduler = build({"name": "plateau", **keys})
    assert isinstance(scheduler, PlateauLR)
    assert {key: getattr(scheduler._plateau, key) for key in keys} == keys


@pytest.mark.parametrize("name", RULES)
def test_the_defaults_of_a_rule_are_the_same_in_a_file_and_in_python(name: str) -> None:
    in_python = {
        key: parameter.default
        for key, parameter in inspect.signature(RULES[name]).parameters.items()
        if key != "optimizer"
    }
    assert SCHEDULES[name]().model_dump(exclude={"name"}) == in_python


def test_phases_and_rates_per_layer_are_put_around_a_rule() -> None:
    config = parse_config(
        {
            "schedule": {"name": "slope", "window": 20},
            "phases": {"warmup_steps": 5, "cooldown_fraction": 0.25, "cooldown_shape": "linear", "end": 0.1},
            "layer_rates": {"stem": 0.5, "l.*": {"start": 2.0, "end": 1.0}},
        }
    )
    optimizer = Adam([{"params": [parameter()], "name": name} for name in ("stem", "linear")], lr=1e-3)
    scheduler = build_scheduler(config, optimizer, num_steps=100)
    assert isinstance(scheduler, LayerwiseLR)
    assert isinstance(scheduler.scheduler, PhasesLR)
    assert isinstance(scheduler.scheduler.rule, SlopeLR)
    seen = []
    for _ in range(100):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step(1.0)
    assert seen[0] == pytest.approx([1e-3 / 5 * 0.5, 1e-3 / 5 * 2.0])
    assert seen[50] == pytest.approx([1e-3 * 0.5, 1e-3 * (2 - 50 / 99)])
    assert seen[99] == pytest.approx([1e-4 * 0.5, 1e-4])


def test_phases_around_a_function_of_the_step() -> None:
    phases = {"warmup_fraction": 0.2, "cooldown_steps": 4, "cooldown_shape": "linear"}
    config = parse_config({"schedule": {"name": "cosine", "min_lr": 0.5}, "phases": phases, "optimizer": {"lr": 1.0}})
    found = preview_rates(config, num_steps=10)["stem"]
    # 2 updates up to 1, 4 of half a cosine from 1 to 0.5, 4 of a line from there to 0
    assert found == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"layer_rates": {"stm": 0.1}}, "LayerwiseLR: 'stm' matches no group. There are: all"),
        ({"phases": {"warmup_steps": 80, "cooldown_fraction": 0.5}}, r"must be between 0 and total_steps = 100"),
        ({"schedule": {"name": "snr"}, "optimizer": {"name": "sgd"}}, "SnrLR: it needs Adam's moments, which SGD"),
    ],
)
def test_what_does_not_fit_the_run_is_refused(table: dict[str, Any], message: str) -> None:
    config = parse_config({"schedule": {"name": "constant"}, **table})
    optimizer = build_optimizer(config.optimizer, {"all": [parameter()]})
    with pytest.raises(ConfigError, match=message):
        build_scheduler(config, optimizer, num_steps=100)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"name": "torch:StpLR"}, r"Unknown scheduler 'torch:StpLR'.* Did you mean 'torch:StepLR'\?"),
        ({"name": "torch:LambdaLR"}, "torch:LambdaLR takes functions or schedulers"),
        (
            {"name": "torch:StepLR"},
            "torch:StepLR: TypeError: .*step_size.*\\. Its keys: step_size, gamma; counts are of updates",
        ),
        (
            {"name": "torch:StepLR", "stepsize": 3},
            r"Unknown key 'schedule.stepsize'.* Did you mean 'schedule.step_size'\?",
        ),
        ({"name": "torch:OneCycleLR", "max_lr": 1.0, "total_steps": 5}, "torch:OneCycleLR: .*Tried to step"),
        ({"name": "torch:StepLR", "step_size": 0}, "torch:StepLR: ZeroDivisionError"),
        ({"name": "torch:StepLR", "step_size": "abc"}, "torch:StepLR: TypeError"),
        (
            {"name": "torch:ReduceLROnPlateau"},
            "torch:ReduceLROnPlateau needs the loss, .* Use schedule.name = 'plateau'",
        ),
        ({"name": "torch:Optimizer"}, "Unknown scheduler 'torch:Optimizer'"),
    ],
)
def test_what_torch_does_not_have_is_explained(schedule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(schedule)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"schedule": {"name": "torch:ExponentialLR", "gamma": -1.0}}, "of 'stem' at update 2 would be -0.001"),
        ({"schedule": {"name": "torch:ExponentialLR", "gamma": 1e308}}, "of 'stem' at update 3 would be inf"),
        ({"layer_rates": {"layer2": 1e308}, "optimizer": {"lr": 1e4}}, "of 'layer2' at update 1 would be inf"),
        (
            {"schedule": {"name": "refined", "multipliers": [1e308, 1e308]}, "optimizer": {"lr": 100.0}},
            "of 'stem' at update 1 would be inf",
        ),
    ],
)
def test_a_rate_that_is_no_rate_is_refused_before_training(table: dict[str, Any], message: str) -> None:
    config = parse_config({"schedule": {"name": "constant"}, **table})
    groups = {name: [parameter()] for name in ("stem", "layer2")}
    with pytest.raises(ConfigError, match=f"the rate {message}; it must be finite and not below 0"):
        build_scheduler(config, build_optimizer(config.optimizer, groups), num_steps=10)
    with pytest.raises(ConfigError, match=f"the rate {message}; it must be finite and not below 0"):
        preview_rates(config, num_steps=10)


def test_a_rate_that_is_no_rate_later_on_has_no_preview() -> None:
    with pytest.raises(ConfigError, match="the rate of 'stem' at update 4 would be inf"):
        rates({"name": "refined", "multipliers": [1.0, 1.0, 1e308]}, optimizer="sgd", lr=1e5)


@given(warmup=st.floats(0, 0.99), share=st.floats(0, 1), num_steps=st.integers(1, 50))
def test_any_wsd_whose_shares_fit_can_be_built(warmup: float, share: float, num_steps: int) -> None:
    cooldown = share * (1 - warmup)
    rates({"name": "wsd", "warmup_fraction": warmup, "cooldown_fraction": min(cooldown, 1 - warmup)}, num_steps)


@pytest.mark.parametrize("name", RULES)
def test_a_schedule_that_listens_has_no_preview(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' decides during the run, so its rate is not known in advance"):
        rates({"name": name})


def test_a_measured_rate_has_no_preview() -> None:
    config = parse_config({"schedule": {"name": "constant"}, "layer_rates": {"stem": {"measured": "weak_gradients"}}})
    with pytest.raises(ConfigError, match="layer_rates.stem is measured in the run"):
        preview_rates(config, num_steps=5)
