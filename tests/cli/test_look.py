"""lrlab runs and lrlab doctor: what there is, in a folder and of the machine."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Barrier

import pytest
import torch

from lrlab.cli import main
from lrlab.cli.display import Display
from lrlab.cli.options import new_directory, run_name
from lrlab.cli.output import class_rows
from lrlab.config import parse_config, to_toml
from lrlab.experiments.doctor import diagnose
from lrlab.runs import StorageError, lock_run

pytestmark = pytest.mark.usefixtures("blank_pictures")

RUN_JSON = '{"format_version": 1, "status": "failed", "environment": {"command": ["lrlab", "train"]}}'
TINY = ["train", "--width", "2", "--batch-size", "16", "--schedule", "constant"]


@pytest.mark.filterwarnings("default:left out")
def test_runs_are_listed_by_path_with_what_came_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*TINY, "--steps", "3", "--run", "runs/one"]) == 0
    assert main([*TINY, "--steps", "2", "--seed", "7", "--run", "runs/deep/er/two", "--set", "optimizer.lr=1e30"]) == 4
    (tmp_path / "runs" / "damaged").mkdir()
    (tmp_path / "runs" / "damaged" / "run.json").write_text("{")
    capsys.readouterr()

    assert main(["runs"]) == 0
    out, err = capsys.readouterr()
    assert "warning: left out: runs/damaged/run.json: damaged" in err
    rows = [line.split() for line in out.splitlines()[2:]]
    accuracy = json.loads((tmp_path / "runs" / "one" / "run.json").read_text())["result"]["test_accuracy"]
    assert [row[:8] for row in rows] == [
        ["deep/er/two", "digits", "constant", "1e+30", "7", "diverged", "1", "-"],
        ["one", "digits", "constant", "0.001", "0", "complete", "3", f"{100 * accuracy:.2f}"],
    ]

    assert main(["runs", "runs/one", "--json"]) == 0
    [only] = json.loads(capsys.readouterr().out)["runs"]
    assert (only["run"], only["model"], only["status"]) == ("runs/one", "resnet18", "complete")
    assert (only["schedule"], only["optimizer"], only["lr"], only["seed"]) == ("constant", "adam", 0.001, 0)
    assert only["result"]["test_accuracy"] == accuracy


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "config.toml").write_text("steps = 3\n"), "config.toml: damaged, seed must be there."),
        (
            lambda run: (run / "config.toml").write_text("data = 1\nseed = 'x'\n"),
            "config.toml: damaged, seed must be an integer, got 'x'.",
        ),
        (lambda run: (run / "run.json").write_text('{"format_version": 1}'), "its status must be one of running, com"),
        (lambda run: [(run / "run.json").unlink(), (run / "run.json").mkdir()], "run.json: Is a directory"),
    ],
)
@pytest.mark.filterwarnings("default:left out")
def test_a_run_of_which_a_part_is_missing_is_left_out_and_named(
    spoil: Callable[[Path], object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good", "spoilt"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(RUN_JSON)
        (tmp_path / name / "config.toml").write_text(to_toml(parse_config({})))
    spoil(tmp_path / "spoilt")
    assert main(["runs", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["good"]
    assert "warning: left out: " in err and message in err


def test_a_name_that_would_move_the_cursor_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "a\x1b[2Jb"
    run.mkdir()
    (run / "run.json").write_text(RUN_JSON)
    (run / "config.toml").write_text(to_toml(parse_config({})))
    assert main(["runs", str(tmp_path)]) == 0
    assert "a\ufffd[2Jb" in capsys.readouterr().out
    assert main(["report", str(run / "x")]) == 2
    assert "\\x1b[2J" in capsys.readouterr().err


def test_a_run_that_says_running_and_that_nobody_writes_is_abandoned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "killed"
    assert main([*TINY, "--steps", "2", "--run", str(directory)]) == 0
    info = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps(info | {"status": "running"}))
    capsys.readouterr()

    def said() -> tuple[bool, bool]:
        assert main(["runs", str(directory), "--json"]) == 0
        out, err = capsys.readouterr()
        return json.loads(out)["runs"][0]["abandoned"], "lrlab resume RUN continues" in err

    with lock_run(directory):  # as its writer has it
        assert said() == (False, False)
    assert said() == (True, True)
    (directory / ".lock").unlink()
    assert said() == (True, True)
    assert not (directory / ".lock").exists()  # to look leaves nothing behind


def test_a_name_says_what_a_run_is_whatever_its_data_are_called() -> None:
    data = {"name": "folder", "dir": f"/somewhere/{'of a long name ' * 9}"}
    names = {run_name(parse_config({"data": data, "seed": seed})) for seed in (1, 2)}
    assert len(names) == 2
    assert all(name.endswith(("-resnet18-article-seed1", "-resnet18-article-seed2")) for name in names)


def test_processes_that_begin_together_get_a_directory_each(tmp_path: Path) -> None:
    ready = Barrier(8)

    def take(_: int) -> Path:
        ready.wait()
        return new_directory(tmp_path / "runs", "run")

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, range(8)))
    assert sorted(path.name for path in taken) == ["run", *(f"run-{number}" for number in range(2, 9))]
    assert all(path.is_dir() for path in taken)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match=r"runs: File exists"):
        new_directory(tmp_path / "runs", "run")


def test_what_cannot_be_run_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--width", "2", "--batch-size", "100000"]) == 2
    assert "batch_size must be at most" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_end_could_not_be_written_is_not_concluded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    assert main([*TINY, "--steps", "2", "--run", str(directory)]) == 0
    info = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps({**info, "status": "running", "result": None}))
    capsys.readouterr()
    Display(json=True).conclude(directory)
    assert capsys.readouterr() == ("", "")


def test_a_folder_without_runs_is_said_to_have_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 2
    assert "no runs here. Make one with lrlab train" in capsys.readouterr().err


def test_the_doctor_says_what_is_there_and_what_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["program"]["PyTorch"] == version("torch")
    assert found["a run will use"]["threads"].startswith(f"{torch.get_num_threads()} per operation")
    assert found["a run will use"]["device"].startswith("cuda" if torch.cuda.is_available() else "cpu")
    assert torch.cuda.is_available() or found["machine"]["GPUs"] == "PyTorch sees no CUDA GPU"
    assert "gloo" in found["more than one process"]["torchrun"]
    for section, lines in found.items():
        assert section in said.err
        assert all(f"{name:<12} {text}" in said.err for name, text in lines.items())


def test_the_doctor_names_the_line_that_installs_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_nothing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("lrlab.experiments.doctor.version", of_nothing)
    extras = diagnose()["extras"]
    assert extras["ray"] == "not installed: pip install 'lrlab[ray]'"
    assert extras["wandb"] == "not installed: pip install 'lrlab[trackers]'"


def test_a_run_that_was_moved_while_it_was_trained_is_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Display(json=False).conclude(tmp_path / "gone")
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path / 'gone'} was moved or deleted during training.") and "lrlab resume" in said


def test_of_many_classes_the_lowest_are_shown() -> None:
    few = [(f"class {number}", number / 100) for number in range(50)]
    assert len(class_rows(few)) == 10 and class_rows(few)[0].startswith("  class 0 0%")
    heading, *rows = class_rows([*reversed(few), ("without any", None)])
    assert heading == "  the 10 lowest of 51 classes:"
    assert [cell.split() for cell in "".join(rows).split("class")[1:]] == [[f"{n}", f"{n}%"] for n in range(10)]
