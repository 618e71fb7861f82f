"""Negative controls: whatever piece of its state a checkpoint lacked, the comparison would show it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from crashing import Warm
from kills import compare
from lrlab.experiments.state import MODEL, STATE
from lrlab.runs import Checkpoint, sound_checkpoints
from lrlab.runs.checkpoints import write_checkpoint
from lrlab.training.checkpoint import load_state, state_bytes

CONFIG: dict[str, Any] = {
    "model": {"width": 2},
    "batch_size": 16,
    "steps": 30,
    "checkpoint": {"every": 15, "keep": 3},
    "evaluate": {"every": 30},
    "telemetry": {"flush_every": 7, "every": 4},
    # a look at updates 10, 20 and 30: five losses wait when the run is saved at 15
    "schedule": {"name": "slope", "window": 20, "check_every": 10, "min_progress": 0.9, "level": 0.4},
    "phases": {"warmup_steps": 2, "cooldown_steps": 5},
    "averaging": {"decay": 0.9, "every": 3},
}

State = dict[str, Any]
Weights = dict[str, torch.Tensor]
Change = Callable[[State, Weights], Any]
"""Of a checkpoint's content; returns another position, if that is what is changed."""


@pytest.fixture(scope="module")
def made(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CONFIG that nobody disturbed."""
    directory = tmp_path_factory.mktemp("left-out") / "run"
    assert warm.do({"run": str(directory), "config": CONFIG}).code == 0
    return directory


def go_on(warm: Warm, whole: Path, folder: Path, change: Change, config: dict[str, Any] = CONFIG) -> list[str]:
    """Go on from the checkpoint at 15 updates, changed; return what is not as in the run that was never stopped."""
    shutil.copytree(whole, folder / "run")
    info = folder / "run" / "run.json"
    info.write_text(info.read_text().replace('"complete"', '"running"', 1))
    checkpoint = next(one for one in sound_checkpoints(whole) if one.step == 15)
    shutil.rmtree(folder / "run" / "checkpoints")
    (folder / "run" / "checkpoints").mkdir()
    write_checkpoint(folder / "run", *changed(checkpoint, change), keep=3)
    ended = warm.do({"run": str(folder / "run"), "config": config})
    return compare(whole, folder / "run") if ended.code == 0 else [ended.err.splitlines()[-1]]


def changed(checkpoint: Checkpoint, change: Change) -> tuple[int, dict[str, bytes]]:
    state, weights = load_state(checkpoint.files[STATE]), load(checkpoint.files[MODEL])
    position = change(state, weights)
    step = position if isinstance(position, int) else checkpoint.step
    return step, {**checkpoint.files, STATE: state_bytes(state), MODEL: save(weights)}


def forget_statistics(state: State, weights: Weights) -> None:
    for name, tensor in state["weights"].items():
        if name.endswith("running_mean"):
            tensor.zero_()
        if name.endswith("running_var"):
            tensor.fill_(1)


def forget_the_average(state: State, weights: Weights) -> None:
    weights.update({name: tensor.contiguous() for name, tensor in state["weights"].items()})


def inner(scheduler: State) -> State:
    """State of the rule within its phases."""
    return next(value for value in scheduler.values() if isinstance(value, dict) and "_losses" in value)


LEFT_OUT: dict[str, Change] = {
    "the optimizer's moments": lambda state, _: state["optimizer"].update(state={}),
    "one moment of one group": lambda state, _: state["optimizer"]["state"][0]["exp_avg_sq"].zero_(),
    "statistics of batch normalisation": forget_statistics,
    "the rates": lambda state, _: [group.update(lr=2e-3) for group in state["optimizer"]["param_groups"]],
    "updates that the scheduler counted": lambda state, _: state["scheduler"].update(last_epoch=0),
    "updates that the rule counted": lambda state, _: inner(state["scheduler"]).update(last_epoch=0),
    "losses that wait for the rule": lambda state, _: inner(state["scheduler"])["_losses"].zero_(),
    "how many of them": lambda state, _: inner(state["scheduler"]).update(_num_losses=0),
    "updates that a probe counted": lambda state, _: state["probes"][0].update(num_updates=0),
    "the position": lambda state, _: 14,
    "the average of the weights": forget_the_average,
    "whether there is an average": lambda state, _: state.update(num_averaged=0),
    "the weights themselves": lambda state, weights: state.update(weights=weights),
}


def test_with_everything_in_it_a_checkpoint_goes_on_the_same(warm: Warm, made: Path, tmp_path: Path) -> None:
    assert go_on(warm, made, tmp_path, lambda state, weights: None) == []


@pytest.mark.parametrize("piece", LEFT_OUT)
def test_without_one_piece_it_does_not(warm: Warm, made: Path, tmp_path: Path, piece: str) -> None:
    assert go_on(warm, made, tmp_path, LEFT_OUT[piece])


def test_without_the_momentum_of_sgd_it_does_not(warm: Warm, tmp_path: Path) -> None:
    config = {**CONFIG, "optimizer": {"name": "sgd", "lr": 0.05}}
    assert warm.do({"run": str(tmp_path / "whole"), "config": config}).code == 0
    assert go_on(warm, tmp_path / "whole", tmp_path / "none", lambda state, weights: None, config) == []
    assert go_on(warm, tmp_path / "whole", tmp_path / "less", LEFT_OUT["the optimizer's moments"], config)
