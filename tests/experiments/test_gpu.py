"""A run on a GPU from its first update to its last: trained, stopped, gone on with, evaluated."""

import contextlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from lrlab.config import parse_config
from lrlab.data import load_digits_data
from lrlab.experiments import Experiment, load_trained
from lrlab.runs import read_run

DIGITS = load_digits_data()
CONFIG: dict[str, Any] = {
    "model": {"width": 2},
    "steps": 40,
    "batch_size": 16,
    "schedule": {"name": "constant"},
    "evaluate": {"every": 20},
    "telemetry": {"outputs_every": 1},
    "device": "cuda",
}
"""Updates 2 to 9 neither begin an epoch, nor look at a rule, nor write or evaluate anything."""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and pytest -m gpu")
def test_updates_on_a_gpu_never_wait_for_it_and_a_run_that_was_stopped_there_goes_on_to_its_end(tmp_path: Path) -> None:
    """Written on a machine without a GPU, and not run on one yet."""
    with contextlib.closing(Experiment(parse_config(CONFIG), data=DIGITS).run(tmp_path / "run")) as events:
        next(events)  # brings the order of the images and the optimizer's state to the device
        torch.cuda.set_sync_debug_mode("error")
        try:
            steps = [event.step for event in itertools.islice(events, 8)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert steps == list(range(2, 10))
    assert read_run(tmp_path / "run").status == "preempted"

    with pytest.warns(UserWarning, match="convolutions on a GPU are not deterministic"):
        list(Experiment(parse_config(CONFIG), data=DIGITS).run(tmp_path / "run", resumes=True))

    run = read_run(tmp_path / "run")
    assert (run.status, run.info["resumed"][0]["step"]) == ("complete", 9)
    assert run.info["engine"]["device"].startswith("cuda")
    assert run.series("train/loss")[0].tolist() == list(range(1, 41))
    assert [evaluation["step"] for evaluation in run.evaluations()] == [20, 40]
    right = load_trained(tmp_path / "run").probabilities(DIGITS.test.images).argmax(1).cpu() == DIGITS.test.labels
    assert right.float().mean().item() == pytest.approx(run.result["test_accuracy"], abs=0.01)
