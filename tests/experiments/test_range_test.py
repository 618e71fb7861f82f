"""The range test of a configuration trains as a run does, seed by seed, and leaves nothing behind."""

from pathlib import Path
from typing import Any

import pytest

from lrlab.config import ConfigError, parse_config
from lrlab.data import load_digits_data
from lrlab.experiments import Experiment, Sweep, Update, plan_range_test, run_range_test
from lrlab.runs import read_run

TABLE: dict[str, Any] = {"model": {"width": 2}, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.3}, "seed": 4}
RANGE: dict[str, Any] = {"start": 1e-3, "end": 1.0, "num_steps": 30}


def test_its_losses_are_those_of_a_run_whose_rate_rises(tmp_path: Path) -> None:
    events = list(run_range_test(plan_range_test(parse_config(TABLE), **RANGE, num_seeds=2)))
    first, second = (event for event in events if isinstance(event, Sweep))
    assert (first.seed, second.seed) == (4, 5)
    rising = {"name": "torch:ExponentialLR", "gamma": 1000 ** (1 / 29)}
    for sweep in (first, second):
        table = {**TABLE, "optimizer": {"name": "sgd", "lr": 1e-3}, "schedule": rising, "steps": 30, "seed": sweep.seed}
        list(Experiment(parse_config(table), data=load_digits_data()).run(tmp_path / f"{sweep.seed}"))
        run = read_run(tmp_path / f"{sweep.seed}")
        num_losses = len(sweep.losses)
        assert num_losses >= 20
        assert list(run.series("train/loss")[1][:num_losses]) == pytest.approx(list(sweep.losses), rel=1e-6)
        assert list(run.series("lr/stem")[1][:num_losses]) == pytest.approx(list(sweep.lrs))


def test_every_update_is_told_before_the_sweep_that_it_belongs_to() -> None:
    events = list(run_range_test(plan_range_test(parse_config(TABLE), **RANGE, num_seeds=2)))
    ends = [index for index, event in enumerate(events) if isinstance(event, Sweep)]
    assert ends[-1] == len(events) - 1
    steps = [event.step for event in events[: ends[0]] if isinstance(event, Update)]
    assert steps == list(range(1, ends[0] + 1))


def test_a_sweep_that_diverges_ends_there() -> None:
    plan = plan_range_test(parse_config(TABLE), start=1e-2, end=1e12, num_steps=100, num_seeds=1)
    *updates, sweep = run_range_test(plan)
    assert isinstance(sweep, Sweep) and sweep.diverged_at is not None
    assert len(updates) < 100
    last = updates[-1]
    assert isinstance(last, Update) and float(last.lrs[0]) == pytest.approx(sweep.diverged_at)


def test_what_is_put_around_a_schedule_plays_no_part_and_rates_of_layers_do() -> None:
    table = {
        **TABLE,
        "schedule": {"name": "slope", "min_lr": 0.2},
        "phases": {"warmup_steps": 500},
        "epochs": 3,
        "stop_below_lr": 0.25,
        "layer_rates": {"stem": 0.5, "layer[34]": {"shape": "linear", "start": 2.0, "end": 0.0}},
    }
    first, *_ = run_range_test(plan_range_test(parse_config(table), **RANGE, num_seeds=1))
    assert isinstance(first, Update)
    assert [float(lr) for lr in first.lrs] == pytest.approx([0.5e-3, 1e-3, 1e-3, 2e-3, 2e-3, 1e-3])


@pytest.mark.parametrize(
    ("changes", "table", "message"),
    [
        ({"end": 1e-3}, {}, "A sweep needs 0 < start < end, both finite, got 0.001 and 0.001."),
        ({"num_steps": 19}, {}, "A sweep needs at least 20 updates, got 19."),
        ({"num_seeds": 0}, {}, "at least one seed, and none above 4294967295, got 0 starting at 4."),
        ({"num_seeds": 2}, {"seed": 2**32 - 1}, "none above 4294967295, got 2 starting at 4294967295."),
        ({}, {"layer_rates": {"linear": {"measured": "weak_gradients"}}}, "as in --set layer_rates.linear=1.0."),
    ],
)
def test_what_cannot_be_swept_is_refused(changes: dict[str, Any], table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plan_range_test(parse_config({**TABLE, **table}), **{**RANGE, "num_seeds": 1, **changes})
    assert message in str(refused.value)
