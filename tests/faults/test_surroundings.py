"""No permission, no memory, another process, a reader who has gone: each is said in a line, and nothing is lost."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lrlab.config import parse_config, to_toml
from lrlab.experiments.verify import differences
from lrlab.runs import lock_run, read_run, sound_checkpoints

ENDLESS = [
    "train",
    "--width",
    "2",
    "--batch-size",
    "16",
    "--schedule",
    "constant",
    "--steps",
    "1000000",
    "--run",
    "run",
]


@pytest.fixture
def stopped(do, tmp_path: Path) -> Path:
    """A run that was killed after it was saved at update 10."""
    assert do(kill={"number": 1, "how": "after", "within": "/.latest"}).code == -9
    return tmp_path / "run"


def test_without_a_folder_for_what_pytorch_compiles_there_is_no_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lrlab", "train", "--steps", "1", "--run", str(tmp_path / "run")]
    nowhere = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": "/dev/null/nowhere"}  # read when PyTorch is loaded
    ended = subprocess.run(command, env=nowhere, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert "lrlab: PyTorch cannot create its compiler's cache folder ([Errno 20]" in ended.stderr
    assert "Traceback" not in ended.stderr and not (tmp_path / "run").exists()


NO_NAME = """
import sys
from lrlab.cli import main

class BeforeTorch213:
    def find_spec(self, name, *_):
        if name == "torch._dynamo":
            raise KeyError("getpwuid(): uid not found: 4711")

sys.meta_path.insert(0, BeforeTorch213())
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", [["train", "--steps", "1"], ["doctor"]])
def test_a_user_without_a_name_is_told_to_give_one(tmp_path: Path, command: list[str]) -> None:
    arguments = [sys.executable, "-c", NO_NAME, *command]
    ended = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert "who has no name here (getpwuid(): uid not found: 4711). Set USER in the environment" in ended.stderr
    assert "Traceback" not in ended.stderr and list(tmp_path.iterdir()) == []


def test_a_second_process_is_turned_away_at_once_and_the_first_is_not_disturbed(
    do, tmp_path: Path, stopped: Path
) -> None:
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with lock_run(stopped):
        ended = do(lrlab=["resume", "run"])
    assert ended.code == 6
    assert ended.err.startswith("lrlab: run: another process is writing this run (process ")
    assert ended.out == "", "nothing was loaded before"
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("verb", ["train", "resume"])
def test_a_directory_that_may_not_be_written_is_said_before_training(
    do, open_folder: Path, as_somebody: dict[str, int], stopped: Path, verb: str
) -> None:
    if verb == "resume":
        shutil.copytree(stopped, open_folder / "run")
        arguments = ["resume", str(open_folder / "run")]
    else:
        arguments = ["train", *ENDLESS[1:-1], str(open_folder / "run")]
    open_folder.chmod(0o555)
    for path in open_folder.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    ended = do(lrlab=arguments, folder="/", **as_somebody)
    assert ended.code == 5, ended.err
    assert f"{open_folder}/run" in ended.err and "Permission denied. Check space and permissions." in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("verb", ["train", "resume", "report"])
def test_a_directory_that_may_not_be_entered_is_said(
    do, open_folder: Path, as_somebody: dict[str, int], stopped: Path, verb: str
) -> None:
    shutil.copytree(stopped, open_folder / "closed" / "run")
    (open_folder / "closed").chmod(0o000)
    directory = str(open_folder / "closed" / "run")
    ended = do(lrlab=[*ENDLESS[:-1], directory] if verb == "train" else [verb, directory], folder="/", **as_somebody)
    assert ended.code == 5, ended.err
    assert directory in ended.err and "Permission denied. Check space and permissions." in ended.err
    assert ended.err.count("\n") == 1


def test_too_little_memory_is_said_with_the_batch_size_and_the_checkpoint_stays(do, tmp_path: Path) -> None:
    table: dict[str, Any] = {
        "model": {"width": 16},
        "batch_size": 1400,
        "steps": 1,
        "schedule": {"name": "constant"},
        "engine": {"compile": False},
    }
    (tmp_path / "run.toml").write_text(to_toml(parse_config(table)))
    assert do(lrlab=["train", "--config", "run.toml", "--run", "run"]).code == 0
    before = sound_checkpoints(tmp_path / "run")
    ended = do(lrlab=["resume", "run", "--steps", "3"], max_memory=120_000_000)
    assert ended.code == 2, ended.err
    assert ended.err == (
        "lrlab: out of memory: updates of 1400 images and evaluations of 500, at width 16, do not fit. "
        "Lower batch_size, evaluate.batch_size or model.width, or free memory. The checkpoints are as they were.\n"
    )
    assert [one.files for one in sound_checkpoints(tmp_path / "run")] == [one.files for one in before]
    assert read_run(tmp_path / "run").status == "failed"
    assert do(lrlab=["resume", "run", "--steps", "2"]).code == 0


def test_a_reader_who_leaves_stops_the_run_saved(do, tmp_path: Path) -> None:
    ended = do(lrlab=[*ENDLESS, "--set", "evaluate.every=5"], closed=["stdout"])
    assert (ended.code, ended.err) == (128 + signal.SIGPIPE, "")


def test_a_signal_saves_though_nobody_reads_what_is_said(do, tmp_path: Path) -> None:
    ended = do(lrlab=ENDLESS, closed=["stderr"], signals=[[3, signal.SIGTERM]])
    assert ended.code == 143
    run = read_run(tmp_path / "run")
    assert run.status == "preempted"
    (checkpoint,) = sound_checkpoints(tmp_path / "run")
    assert checkpoint.step == run.result["steps"] > 0


def test_a_run_stopped_by_a_signal_goes_on_as_if_it_had_not_been(do, tmp_path: Path, whole: Path, config) -> None:
    (tmp_path / "run.toml").write_text(to_toml(parse_config(config)))
    verb = ["train", "--config", "run.toml", "--run"]
    for within in ("evaluations.jsonl", "step-000030.tmp"):  # right at an evaluation, and in a save
        ended = do(lrlab=[*verb, "run"], signal_at={"within": within, "signal": signal.SIGINT})
        assert ended.code == 130
        assert ended.err == (
            "lrlab: finishing the current update, then saving and stopping; repeat to stop at once\n"
            "lrlab: stopped; what was recorded so far is kept.\n"
        )
        verb = ["resume"]
    assert do().code == 0
    # it was also saved where it stood, so the checkpoints before the last are others
    (last, *_), (last_again, *_) = (sound_checkpoints(directory) for directory in (whole, tmp_path / "run"))
    assert list(differences(read_run(whole), last, read_run(tmp_path / "run"), last_again)) == []
