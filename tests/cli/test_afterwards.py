"""The verbs that measure a run once it is made, as somebody types them."""

import json
import shutil
from pathlib import Path

import pytest

from lrlab.cli import main
from lrlab.config import parse_config
from lrlab.data import load_digits_data
from lrlab.experiments import Experiment

QUICK = ["--examples", "16", "--samples", "1", "--vectors", "1", "--whole"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "study"
    table = {"model": {"width": 2}, "steps": 2, "batch_size": 16, "schedule": {"name": "constant"}}
    data = load_digits_data()
    for seed in range(2):
        list(Experiment(parse_config({**table, "seed": seed}), data=data).run(folder / "arm" / f"seed{seed}"))
    (folder / "study.toml").write_text("name = 'study'\n")
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "study")


def test_sharpness_of_a_study_is_that_of_its_runs(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sharpness", str(study), *QUICK, "--json"]) == 0
    out, err = capsys.readouterr()
    measured = json.loads(out)["measured"]
    assert [(one["run"], one["step"]) for one in measured] == [(str(study / "arm" / f"seed{s}"), 2) for s in (0, 1)]
    assert all("hessian_max/whole" in one["values"] for one in measured)
    assert "update 2: largest eigenvalue" in err
    assert main(["sharpness", str(study), *QUICK]) == 0
    assert "measured already" in capsys.readouterr().out


def test_a_run_of_a_study_that_cannot_be_measured_does_not_hide_the_others(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(study / "arm" / "seed0" / "checkpoints")
    for verb, options in (("sharpness", QUICK), ("generalisation", ["--images", "20"])):
        assert main([verb, str(study), *options, "--json"]) == 2
        out, err = capsys.readouterr()
        assert [one["run"] for one in json.loads(out)["measured"]] == [str(study / "arm" / "seed1")]
        assert "not measured: " in err and "it has no checkpoint" in err


def test_generalisation_says_each_figure(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generalisation", str(study / "arm" / "seed0"), "--images", "20", "--json"]) == 0
    out, err = capsys.readouterr()
    (found,) = json.loads(out)["measured"]
    assert found["generalisation"]["images"] == 20
    assert "update 2, 20 test images" in err and "corrupted_accuracy" in err


def test_what_is_wrong_is_said_in_a_line(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(study / "arm" / "seed0")
    for arguments, said in {
        ("sharpness", run, "--at", "7"): "no checkpoint at update 7; there are some at 2",
        ("sharpness", run, "--examples", "10"): "Use 16.",
        ("generalisation", run, "--other", "digits"): "trained on digits: give",
        ("generalisation", run, "--other-dir", "x"): "name it with --other",
        ("generalisation", run, "--set", "data.test_fraction=0.2"): "name it with --other",
    }.items():
        assert main(list(arguments)) == 2
        error = capsys.readouterr().err
        assert said in error and len(error.splitlines()) <= 3
