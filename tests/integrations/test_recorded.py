"""Losses are found in runs, CSV files and TensorBoard's events, and what holds none is told so."""

from pathlib import Path

import numpy as np
import pytest

from lrlab.config import parse_config
from lrlab.data import load_digits_data
from lrlab.experiments import Experiment
from lrlab.integrations.recorded import RecordedError, read_losses
from lrlab.runs import read_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 updates."""
    directory = tmp_path_factory.mktemp("made") / "run"
    config = parse_config({"model": {"width": 2}, "steps": 20, "batch_size": 16, "schedule": {"name": "constant"}})
    list(Experiment(config, data=load_digits_data()).run(directory))
    return directory


def test_of_a_run(made: Path) -> None:
    found = read_losses(made)
    assert found.name == "train/loss"
    assert found.steps.tolist() == list(range(1, 21))
    assert found.losses.tolist() == read_run(made).series("train/loss")[1].tolist()
    assert read_losses(made, "grad_l2/stem").losses.tolist() == read_run(made).series("grad_l2/stem")[1].tolist()


def test_of_tensorboards_events(made: Path, tmp_path: Path) -> None:
    (events,) = made.glob("events.out.tfevents.*")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / events.name).write_bytes(events.read_bytes())
    for path in (tmp_path / "logs", tmp_path / "logs" / events.name):
        found = read_losses(path)
        assert found.name == "train/loss"
        assert found.steps.tolist() == list(range(1, 21))
        # an event holds float32
        assert found.losses == pytest.approx(read_run(made).series("train/loss")[1], rel=1e-6)


def test_of_events_that_torch_wrote(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(0, 100, 10):
            writer.add_scalar("loss", step / 2, step)
            writer.add_scalar("accuracy", 0.5, step)
    found = read_losses(tmp_path)
    assert (found.name, found.steps.tolist()) == ("loss", list(range(0, 100, 10)))
    assert found.losses.tolist() == [step / 2 for step in range(0, 100, 10)]
    assert read_losses(tmp_path, "accuracy").losses.tolist() == [0.5] * 10


@pytest.mark.parametrize(
    ("text", "name", "steps", "losses"),
    [
        ("loss\n1.5\n1.25\n", "loss", [1, 2], [1.5, 1.25]),
        ("step,train/loss,lr\n10,1.5,0.1\n20,nan,0.1\n", "train/loss", [10, 20], [1.5, float("nan")]),
        ("Wall time,Step,Value\n1.7e9,5,2\n1.8e9,6,1\n", "Value", [5, 6], [2, 1]),
        ("global_step,loss,accuracy\n1,3,\n2,,0.5\n3,1,\n", "loss", [1, 3], [3, 1]),
    ],
    ids=["one column", "a tracker's", "TensorBoard's", "with gaps"],
)
def test_of_a_csv_file(tmp_path: Path, text: str, name: str, steps: list[float], losses: list[float]) -> None:
    path = tmp_path / "losses.csv"
    path.write_text(text)
    found = read_losses(path)
    assert (found.name, found.steps.tolist()) == (name, steps)
    np.testing.assert_array_equal(found.losses, losses)


@pytest.mark.parametrize(
    ("name", "text", "column", "message"),
    [
        (
            "a.csv",
            "epoch,accuracy\n1,0.5\n",
            None,
            "no column has a usual name. Name the loss with --column: epoch, accura",
        ),
        ("a.csv", "loss\n1\n", "los", "no column 'los'. Name the loss with --column: loss"),
        ("a.csv", "loss\nhigh\n", None, "no numbers were recorded here"),
        ("a.csv", "loss\n", None, "there are no rows below the header"),
        ("a.csv", "", None, "cannot be read as CSV"),
        (
            "a.csv",
            "step,loss\n1,2\n2,2\n1,2\n",
            None,
            "must rise from row to row. .* use lrlab import --arm",
        ),
        ("a.txt", "loss\n1\n", None, "unknown format. Name a CSV"),
    ],
)
def test_what_holds_no_losses_is_told_so(
    tmp_path: Path, name: str, text: str, column: str | None, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(RecordedError, match=message):
        read_losses(path, column)


def test_a_folder_without_anything_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(RecordedError, match="no numbers were recorded here"):
        read_losses(tmp_path)
    with pytest.raises(RecordedError, match="there is no such file or folder"):
        read_losses(tmp_path / "missing.csv")
