"""A run is refined by the norm that fits its optimizer, into a file that trains."""

import tomllib
from pathlib import Path

import pytest
import torch

from lrlab.config import ConfigError, parse_config
from lrlab.data import load_digits_data
from lrlab.experiments import Experiment, Update, preview_rates, refine_run
from lrlab.runs import read_run
from lrlab.schedulers import refined_multipliers


@pytest.mark.parametrize(("optimizer", "norm"), [("sgd", "l2"), ("adam", "l1")])
def test_the_table_is_that_of_the_gradients_and_can_be_trained_with(tmp_path: Path, optimizer: str, norm: str) -> None:
    table = {
        "model": {"width": 2}, "steps": 40, "batch_size": 16, "schedule": {"name": "constant"},
        "optimizer": {"name": optimizer, "lr": 0.01},
    }  # fmt: skip
    experiment = Experiment(parse_config(table), data=load_digits_data())
    norms = []
    for event in experiment.run(tmp_path / "run"):
        if isinstance(event, Update):
            gradients = [parameter.grad.double().flatten() for parameter in experiment.model.parameters()]  # type: ignore[union-attr]
            norms.append(torch.linalg.vector_norm(torch.cat(gradients), 2 if norm == "l2" else 1))
    found = refine_run(read_run(tmp_path / "run"), str(tmp_path / "refined.toml"), smoothing=0.2)
    expected = refined_multipliers(torch.stack(norms), norm=norm, smoothing=0.2)  # type: ignore[arg-type]
    assert found == pytest.approx(expected, abs=2e-6)  # six digits are kept
    written = tomllib.loads((tmp_path / "refined.toml").read_text())
    assert written["schedule"] == {"name": "refined", "multipliers": found}
    config = parse_config(written)  # all of the run, but for its schedule
    assert (config.model.width, config.steps, config.optimizer.name) == (2, 40, optimizer)
    rates = preview_rates(config, num_steps=40)["stem"]
    assert max(rates) == pytest.approx(0.01, rel=0.05) and rates[-1] == 0.0


def test_a_run_whose_gradients_vanished_is_refused(tmp_path: Path) -> None:
    config = parse_config({"model": {"width": 2}, "steps": 5, "batch_size": 16, "schedule": {"name": "constant"}})
    list(Experiment(config, data=load_digits_data()).run(tmp_path / "run"))
    with pytest.raises(ConfigError, match="needs the gradients of 10 updates or more, none of them zero or infinite; "):
        refine_run(read_run(tmp_path / "run"), tmp_path / "refined.toml")
