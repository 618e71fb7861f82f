"""What a configuration accepts, and what it says about what it does not."""

import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lrlab.config import (
    SCHEDULES,
    ConfigError,
    CosineSchedule,
    RunConfig,
    differences,
    merge,
    parse_config,
    read_setting,
    read_toml,
    to_table,
    to_toml,
)


def test_defaults_are_the_articles() -> None:
    config = parse_config({})
    assert config.optimizer.name == "adam"
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (1e-3, 1e-5)
    assert to_table(config)["schedule"] == {
        "name": "article",
        "multiplier": 0.5,
        "check_every": 1000,
        "factor": 0.1,
        "min_lr": 1e-6,
        "reset_optimizer": True,
    }
    assert (config.telemetry.every, config.evaluate.every, config.epochs) == (1, 1000, 5)


@pytest.mark.parametrize("name", [*SCHEDULES, "torch:StepLR"])
def test_a_configuration_survives_toml(name: str) -> None:
    table = {"multipliers": [0.5, 1.0]} if name == "refined" else {}
    config = parse_config({"schedule": {"name": name, **table}, "steps": 7})
    assert parse_config(tomllib.loads(to_toml(config))) == config


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"schedul": {}}, "Unknown key 'schedul'. Known: data, model, .* Did you mean 'schedule'[?]"),
        ({"schedule": {"multiplir": 1.0}}, "Unknown key 'schedule.multiplir'.* Did you mean 'schedule.multiplier'[?]"),
        ({"schedule": {"name": "cosin"}}, "Unknown schedule 'cosin'. Known: article, .* Did you mean 'cosine'[?]"),
        (
            {"schedule": {"name": "cosine", "multiplier": 1.0}},
            "Unknown key 'schedule.multiplier'. Known: schedule.name",
        ),
        (
            {"optimizer": {"learning_rate": 1.0}},
            "Unknown key 'optimizer.learning_rate'.* Did you mean 'optimizer.lr'[?]",
        ),
        ({"optimizer": {"wieght_decay": 0.0}}, "'optimizer.wieght_decay'.* Did you mean 'optimizer.weight_decay'[?]"),
        ({"optimizer": {"xyz": 0.0}}, "Unknown key 'optimizer.xyz'.* optimizer.nesterov.$"),
        ({"learning_rate": 1.0}, "Unknown key 'learning_rate'.* Did you mean 'optimizer.lr'[?]"),
        ({"data": {"width": 8}}, "Unknown key 'data.width'.* Did you mean 'model.width'[?]"),
        ({"schedule": {"name": "slope", "lr": 0.1}}, "'schedule.lr'.* Did you mean 'optimizer.lr'[?]"),
        ({"LR": 1.0}, "Unknown key 'LR'.* Did you mean 'optimizer.lr'[?]"),
        ({"width": 8}, "Unknown key 'width'.* Did you mean 'model.width'[?]"),
        ({"optimizer": {"name": "adamW"}}, "must be 'adam', 'adamw' or 'sgd', got 'adamW'. Did you mean 'adamw'[?]"),
        ({"data": {"name": "digit"}}, "data.name: must be .*, got 'digit'. Did you mean 'digits'[?]"),
        ({"schedule": "cosine"}, "schedule: must be a table"),
        ({"schedule": {"name": "torch:"}}, "schedule.name: must be torch:<Class>, as in torch:StepLR, got 'torch:'"),
        ({"model": "resnet34"}, "model: must be a table of keys, as in model.name, got 'resnet34'"),
        ({"optimizer": {"lr": float("nan")}}, "optimizer.lr: must be a finite number, got nan"),
        ({"optimizer": {"lr": -1.0}}, "optimizer.lr: must be greater than 0, got -1.0"),
        ({"epochs": 0}, "epochs: must be greater than or equal to 1, got 0"),
        ({"epochs": 1, "steps": 2}, "Give epochs or steps, not both: got epochs = 1 and steps = 2"),
        ({"batch_size": "12"}, "batch_size: must be a valid integer, got '12'"),
        ({"batch_size": True}, "batch_size: must be a valid integer, got True"),
        ({"seed": -1}, "seed: must be greater than or equal to 0, got -1"),
        ({"data": {"name": "mnist"}}, "data.name: must be 'cifar10', 'cifar100', 'digits' or 'folder', got 'mnist'"),
        ({"data": {"name": "folder"}}, "needs its directory: --data folder:DIR"),
        ({"data": {"name": "cifar10", "test_fraction": 0.1}}, "data.test_fraction: cifar10 has its own test split"),
        ({"data": {"dir": "x"}}, "data.dir: digits come with scikit-learn"),
        ({"optimizer": {"momentum": 0.9}}, "optimizer.momentum: only sgd has it, got adam"),
        ({"optimizer": {"nesterov": True}}, "optimizer.nesterov: only sgd has it, got adam; leave the key out"),
        (
            {"optimizer": {"name": "sgd", "momentum": 0.0, "nesterov": True}},
            "optimizer.nesterov needs a momentum above 0, got optimizer.momentum = 0. Raise it",
        ),
        ({"label_smoothing": 1.0}, "label_smoothing: must be less than 1, got 1.0"),
        ({"averaging": {"decay": 1.0}}, "averaging.decay: must be less than 1, got 1.0"),
        (
            {"averaging": {"every": 5}},
            "averaging.every = 5 has no effect without averaging.decay",
        ),
        ({"data": {"cutout": -1}}, "data.cutout: must be greater than or equal to 0, got -1"),
        ({"optimizer": {"lr": 1e-7}}, "schedule.min_lr must be at most optimizer.lr, got 1e-06 and 1e-07"),
        ({"stop_below_lr": 1e-7}, "stop_below_lr must be above schedule.min_lr.*would never fall below it"),
        ({"schedule": {"name": "slope", "test": "dlib", "level": 0.1}}, "schedule.level: it is fixed by schedule.test"),
        (
            {"schedule": {"name": "slope", "window": 10, "check_every": 11}},
            "must be at most schedule.window, got 11 and",
        ),
        (
            {"schedule": {"name": "slope", "windw": 10}},
            "Unknown key 'schedule.windw'.* Did you mean 'schedule.window'[?]",
        ),
        ({"schedule": {"name": "snr", "check_every": 10}}, "at least 5 [*] schedule.sample_every, got 10 and 20"),
        ({"schedule": {"name": "stationarity", "check_every": 15}}, "must be a multiple of schedule.sample_every"),
        (
            {"schedule": {"check_every": 10**8}},
            "schedule.check_every: must be at most 10,000,000, got 100000000: .* For a constant rate, use",
        ),
        ({"schedule": {"name": "slope", "window": 10**20}}, "schedule.window: must be at most 10,000,000, got 1000"),
        ({"schedule": {"name": "refined"}}, "needs at least two values, got 0. lrlab refine RUN writes them"),
        ({"phases": {"warmup_steps": 5, "warmup_fraction": 0.1}}, "give warmup_steps or warmup_fraction, not both"),
        ({"phases": {"warmup_fraction": 0.5, "cooldown_fraction": 0.6}}, "phases: warmup_fraction . cooldown_fraction"),
        (
            {"phases": {"warmup_steps": 5}, "schedule": {"name": "wsd"}},
            "phases: cannot be combined with schedule wsd; leave them out, or use",
        ),
        (
            {"phases": {"warmup_steps": 5}, "schedule": {"name": "one_cycle"}},
            "phases: cannot be combined with schedule one_cycle; leave them",
        ),
        ({"phases": {"warmup_steps": 5, "cooldown_steps": 6}, "steps": 10}, "must fit into 10 steps, got 5 . 6"),
        ({"phases": {"warmup": 5}}, "Unknown key 'phases.warmup'.* Did you mean 'phases.warmup_steps'[?]"),
        (
            {"layer_rates": {"layer[12": 0.5}},
            r"layer_rates: 'layer\[12' is not a valid regular expression .unterminated character set at position 5.",
        ),
        ({"layer_rates": {"a{99999999999}": 0.5}}, "layer_rates: 'a.99999999999.' is not a valid regular expression"),
        ({"model": {"width": 10**20}}, "model.width: must be less than or equal to 100000, got 1000"),
        ({"engine": {"threads": 20_000}}, "engine.threads: must be less than or equal to 1024, got 20000"),
        ({"schedule": {"name": "torch:StepLR", "gamma": float("nan")}}, "schedule.gamma: must be a finite number"),
        ({"schedule": {"name": "torch:StepLR", "milestones": [1, [float("inf")]]}}, "schedule.milestones: .*got .1, "),
        ({"schedule": {"name": "torch:StepLR", "gamma": date(2026, 1, 1)}}, "schedule.gamma: must be .*got datetime"),
        ({"schedule": {"name": "torch:StepLR", "gamma": {"a": 1}}}, "schedule.gamma: must be .*, got {'a': 1}"),
        ({"layer_rates": {"stem": -1.0}}, "layer_rates.stem: must be greater than or equal to 0, got -1.0"),
        ({"layer_rates": {"stem": {"start": 1.0}}}, "layer_rates.stem.end: must be given"),
        ({"layer_rates": {"stem": {"measured": "x"}}}, "layer_rates.stem.measured: must be 'weak_gradients', got 'x'"),
        (
            {"layer_rates": {"stem": {"start": 1.0, "end": 0.0, "shap": "linear"}}},
            "Unknown key 'layer_rates.stem.shap'.* Did you mean 'layer_rates.stem.shape'[?]",
        ),
        (
            {"schedule": {"name": "wsd", "warmup_fraction": 0.5, "cooldown_fraction": 0.6}},
            r"warmup_fraction \+ cooldown_fraction must be at most 1, got 0.5 \+ 0.6",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(table)


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        parse_config({"epochs": 0, "optimizer": {"lr": -1.0}, "modle": {}})
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("schedule.multiplier=0.2", {"schedule": {"multiplier": 0.2}}),
        ("epochs=3", {"epochs": 3}),
        ("schedule.name=cosine", {"schedule": {"name": "cosine"}}),
        ('schedule.name="cosine"', {"schedule": {"name": "cosine"}}),
        ("data.flip = true", {"data": {"flip": True}}),
        ("schedule.milestones=[10, 20]", {"schedule": {"milestones": [10, 20]}}),
        ("data.dir=a=b", {"data": {"dir": "a=b"}}),
    ],
)
def test_a_setting_is_toml_or_else_a_string(text: str, table: dict[str, Any]) -> None:
    assert read_setting(text) == table


def test_a_torch_scheduler_may_have_a_min_lr_of_its_own() -> None:
    config = parse_config({"schedule": {"name": "torch:CyclicLR", "min_lr": [0.1]}, "stop_below_lr": 1e-9})
    assert config.schedule.model_extra == {"min_lr": [0.1]}


@pytest.mark.parametrize(
    "lowered",
    [
        {"phases": {"cooldown_fraction": 0.2}},
        {"phases": {"cooldown_steps": 10, "end": 0.01}},
        {"layer_rates": {".*": 0.01}},
    ],
    ids=str,
)
def test_a_run_may_end_below_the_floor_of_its_rule_where_something_else_lowers_the_rate(
    lowered: dict[str, Any],
) -> None:
    table = {"schedule": {"name": "slope", "min_lr": 1e-6}, "steps": 100, "stop_below_lr": 1e-7}
    assert parse_config({**table, **lowered}).stop_below_lr == 1e-7
    for not_lowered in ({"phases": {"warmup_steps": 10}}, {"phases": {"cooldown_steps": 10, "end": 1.0}}):
        with pytest.raises(ConfigError, match="stop_below_lr must be above schedule.min_lr"):
            parse_config({**table, **not_lowered})


def test_two_settings_in_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be one KEY=VALUE; repeat --set"):
        read_setting("seed=1\nbatch_size=3")


@pytest.mark.parametrize("text", ["schedule", "=3", ".x=3", "a..b=3"])
def test_a_setting_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be KEY=VALUE"):
        read_setting(text)


def test_layers_merge_key_by_key() -> None:
    assert merge({"model": {"width": 8, "name": "resnet18"}}, {"model": {"width": 16}}) == {
        "model": {"width": 16, "name": "resnet18"}
    }


def test_naming_another_schedule_drops_the_keys_of_the_one_below() -> None:
    base = {"schedule": {"name": "article", "multiplier": 0.2}}
    assert merge(base, {"schedule": {"name": "cosine"}}) == {"schedule": {"name": "cosine"}}
    assert merge(base, {"schedule": {"factor": 0.5}})["schedule"] == {
        "name": "article",
        "multiplier": 0.2,
        "factor": 0.5,
    }


def test_naming_the_schedule_that_is_the_default_keeps_the_keys_of_one_without_a_name() -> None:
    below = {"schedule": {"multiplier": 0.2, "check_every": 7}}
    assert merge(below, {"schedule": {"name": "article"}})["schedule"] == {**below["schedule"], "name": "article"}
    assert merge(below, {"schedule": {"name": "cosine"}}) == {"schedule": {"name": "cosine"}}
    assert merge({"schedule": {"name": "cosine"}}, {"schedule": {"name": "article"}}) == {
        "schedule": {"name": "article"}
    }
    both = {"schedule": {"name": "torch:ExponentialLR", "gamma": 0.9}}
    assert merge(both, {"schedule": {"name": "torch:StepLR"}}) == {"schedule": {"name": "torch:StepLR"}}


def test_a_horizon_in_steps_replaces_one_in_epochs() -> None:
    assert merge({"epochs": 5}, {"steps": 100}) == {"steps": 100}
    assert merge({"steps": 100}, {"epochs": 5}) == {"epochs": 5}


def test_differences_name_the_keys() -> None:
    one = to_table(parse_config({"steps": 5}))
    other = to_table(parse_config({"steps": 5, "schedule": {"multiplier": 0.2}, "seed": 3}))
    assert sorted(differences(one, other)) == ["schedule.multiplier: 0.5 -> 0.2", "seed: 0 -> 3"]


def documented(part: type[Any]) -> list[str]:
    return [name for name, field in part.model_fields.items() if not field.description]


def test_every_field_says_what_it_means() -> None:
    parts = [RunConfig, *SCHEDULES.values(), CosineSchedule]
    parts += [
        field.annotation for name, field in RunConfig.model_fields.items() if hasattr(field.annotation, "model_fields")
    ]
    assert {part.__name__: documented(part) for part in parts if documented(part)} == {}


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(b"\xef\xbb\xbfsteps = 2\n")
    assert read_toml(tmp_path / "run.toml") == {"steps": 2}
