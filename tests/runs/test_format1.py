"""Runs that are on people's disks already: they are read, drawn, and gone on with. tests/runs/format1/README.md."""

import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from lrlab.config import merge, parse_config
from lrlab.experiments import Experiment
from lrlab.report import write_report
from lrlab.runs import DamagedError, read_run, sound_checkpoints

FORMAT1 = Path(__file__).parent / "format1"


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=["run", "weights_alone"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(FORMAT1 / request.param, tmp_path / "run"))


def test_it_is_read(old: Path) -> None:
    run = read_run(old)
    assert (run.status, run.result["steps"], run.info["format_version"]) == ("complete", 6, 1)
    assert run.result["test_accuracy"] == run.evaluations()[-1]["accuracy"] == pytest.approx(36 / 359)
    assert [record["step"] for record in run.evaluations()] == [3, 6]
    assert [(record["step"], record["decision"]) for record in run.decisions()] == [(4, "decay")]
    steps, losses = run.series("train/loss")
    assert list(steps) == [1, 2, 3, 4, 5, 6]
    assert list(losses) == pytest.approx([2.3186584, 2.2320311, 2.4033842, 2.7019570, 2.5145976, 2.4644837])
    assert list(run.series("lr/stem")[1]) == pytest.approx([1e-3] * 4 + [1e-4] * 2)
    assert parse_config(dict(run.config)).model.width == 1
    assert load_file(old / "checkpoints" / "step-000006" / "model.safetensors")["linear.weight"].shape == (10, 8)


def test_it_has_a_page(old: Path) -> None:
    assert write_report(old).stat().st_size > 10_000


@pytest.mark.filterwarnings("ignore:not bit-exact")  # it was made on another machine
def test_it_goes_on(tmp_path: Path) -> None:
    old = Path(shutil.copytree(FORMAT1 / "run", tmp_path / "old"))
    assert [checkpoint.step for checkpoint in sound_checkpoints(old)] == [6]
    config = parse_config(merge(dict(read_run(old).config), {"steps": 9}))
    list(Experiment(config).run(old, resumes=True))
    list(Experiment(config).run(tmp_path / "new"))
    again, new = read_run(old), read_run(tmp_path / "new")
    assert list(again.series("train/loss")[0]) == list(range(1, 10))
    # machines differ in the last digits of a float32, and updates in a row make more of it
    for column in ("train/loss", "lr/stem", "grad_l2/layer4"):
        assert list(again.series(column)[1]) == pytest.approx(list(new.series(column)[1]), rel=1e-3), column
    assert [record["step"] for record in again.evaluations()] == [3, 6, 9]
    assert [record["step"] for record in again.decisions()] == [4, 8]


def test_from_weights_alone_it_does_not_go_on_and_stays_as_it_is(tmp_path: Path) -> None:
    old = Path(shutil.copytree(FORMAT1 / "weights_alone", tmp_path / "old"))
    config = parse_config(merge(dict(read_run(old).config), {"steps": 9}))
    with (
        pytest.warns(UserWarning, match="written by an older lrlab, with weights only"),
        pytest.raises(DamagedError, match="none of its checkpoints is intact. Restore one, or train a new run"),
    ):
        list(Experiment(config).run(old, resumes=True))
    assert {**files(old), Path(".lock"): b""} == {**files(FORMAT1 / "weights_alone"), Path(".lock"): b""}
