"""A replay decides as the training did, and refuses what it cannot replay."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrlab.config import ConfigError, parse_config
from lrlab.data import load_digits_data
from lrlab.experiments import Experiment, calibrate_rule, replay_rule
from lrlab.runs import read_run

RULES: dict[str, dict[str, Any]] = {
    "article": {"name": "article", "check_every": 10, "multiplier": 30.0},
    "slope": {"name": "slope", "window": 20, "check_every": 10, "min_progress": 0.5, "level": 0.4},
    "greedy": {"name": "greedy", "check_every": 2, "patience": 0, "factor": 0.5},
    "plateau": {"name": "plateau", "check_every": 2, "patience": 0},
}
AROUND: dict[str, dict[str, Any]] = {
    "alone": {},
    "with phases": {"phases": {"warmup_steps": 15, "cooldown_steps": 20}},
    "with rates of layers": {"layer_rates": {"stem": 0.5, "layer[34]": 2.0}, "optimizer": {"lr": 2e-3}},
}
"""What stands around a rule, which decides at the base rate."""


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("name", RULES)
def test_over_the_losses_of_its_own_run_a_rule_decides_what_it_decided(
    tmp_path: Path, name: str, around: dict[str, Any]
) -> None:
    table = {"schedule": RULES[name], **around, "model": {"width": 2}, "steps": 100, "batch_size": 16}
    config = parse_config({**table, "telemetry": {"every": 50}})
    list(Experiment(config, data=load_digits_data()).run(tmp_path / "run"))
    made = read_run(tmp_path / "run")
    losses = made.series("train/loss")[1]
    found = replay_rule(config, losses)
    groups = 6  # a replay has one group, the run has one for each layer group
    expected = [
        {**decision, **{key: decision[key][:1] for key in ("lr_before", "lr_after")}} for decision in made.decisions()
    ]
    assert [len(decision["lr_before"]) for decision in made.decisions()] == [groups] * len(expected)
    for decision in [*found, *expected]:
        for key, value in decision.items():
            if isinstance(value, float) and not np.isfinite(value):
                decision[key] = None  # as JSON has no infinity
    assert found == expected
    assert len(found) > 3


def test_a_long_replay_keeps_all_its_decisions() -> None:
    config = parse_config({"schedule": {"name": "plateau", "check_every": 1}})
    found = replay_rule(config, np.ones(25_000))
    assert [decision["step"] for decision in found] == list(range(1, 25_001))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            {"name": "cosine"},
            "'cosine' does not use losses, so it cannot be replayed.*Those that can be replayed: article, slope",
        ),
        ({"name": "torch:StepLR", "step_size": 3}, "'torch:StepLR' does not use losses"),
        ({"name": "snr"}, "'snr' reads the optimizer, not the loss"),
        ({"name": "stationarity"}, "'stationarity' reads the optimizer, not the loss"),
    ],
)
def test_what_cannot_be_replayed_is_refused(schedule: dict[str, Any], message: str) -> None:
    config = parse_config({"schedule": schedule})
    with pytest.raises(ConfigError, match=message):
        replay_rule(config, np.ones(10))
    with pytest.raises(ConfigError, match=message):
        calibrate_rule(config, std=0.3, correlation=0.0, num_traces=10)


def test_phases_that_leave_nothing_to_hear_are_refused() -> None:
    config = parse_config({"schedule": {"name": "slope"}, "phases": {"warmup_steps": 10, "cooldown_steps": 1500}})
    with pytest.raises(
        ConfigError, match="10 updates of warm-up and 1500 of cooldown leave the rule none of the 1000 losses"
    ):
        replay_rule(config, np.ones(1000))


def test_impossible_noise_is_refused() -> None:
    config = parse_config({"schedule": {"name": "slope"}})
    with pytest.raises(ConfigError, match="Noise: std must be >= 0"):
        calibrate_rule(config, std=-1.0, correlation=0.0, num_traces=10)
    with pytest.raises(ConfigError, match="must be >= 1, got 0"):
        calibrate_rule(config, std=0.3, correlation=0.0, num_traces=0)
