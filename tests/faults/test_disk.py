"""A disk that is full: what is there stays, rows are not lost in silence, and the run goes on once there is room."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crashing import Warm
from kills import compare
from lrlab.config import merge, parse_config, to_toml
from lrlab.runs import StorageError, read_run, sound_checkpoints
from lrlab.runs.storage import append_json_lines, read_json_lines, write_whole

TRAIN = ["train", "--config", "run.toml", "--run", "run"]
LESS_THAN_A_CHECKPOINT = 150_000
"""Bytes; at width 4 no other file comes near it."""


@pytest.fixture(scope="module")
def larger(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Runs that nobody disturbed, of networks so large that their state is by far the largest file; made once each."""
    made: dict[int, Path] = {}

    def run(config: dict[str, Any]) -> Path:
        if config["steps"] not in made:
            made[config["steps"]] = tmp_path_factory.mktemp("larger") / "run"
            assert warm.do({"run": str(made[config["steps"]]), "config": config}).code == 0
        return made[config["steps"]]

    return run


@pytest.fixture
def wide(config: dict[str, Any], tmp_path: Path) -> Callable[[int], dict[str, Any]]:
    """Write the configuration of a larger network to run.toml, and return it."""

    def write(steps: int) -> dict[str, Any]:
        table = merge(config, {"model": {"width": 4}, "telemetry": {"every": 5}, "steps": steps})
        (tmp_path / "run.toml").write_text(to_toml(parse_config(table)))
        return table

    return write


def test_a_checkpoint_that_does_not_fit_is_warned_of_and_the_run_goes_on(do, tmp_path: Path, wide, larger) -> None:
    table = wide(30)
    ended = do(lrlab=TRAIN, max_file=LESS_THAN_A_CHECKPOINT, max_file_until="rmdir")
    assert ended.code == 0, ended.err
    assert ended.err.count("\n") == 1
    assert "warning: the last checkpoint could not be written (" in ended.err
    assert "File too large. Check space and permissions.); trying again." in ended.err
    assert compare(larger(table), tmp_path / "run") == []


@pytest.mark.parametrize("steps", [40, 35], ids=["while it trained", "at its end"])
def test_a_run_whose_last_checkpoint_does_not_fit_is_not_complete(do, tmp_path: Path, wide, larger, steps: int) -> None:
    table = wide(steps)
    saved = {"number": 1, "how": "after", "within": "/step-000010/"}  # 20 and 30 are there
    assert do(lrlab=TRAIN, kill=saved).code == -9
    before = [(checkpoint.step, checkpoint.files) for checkpoint in sound_checkpoints(tmp_path / "run")]
    ended = do(lrlab=["resume", "run"], max_file=LESS_THAN_A_CHECKPOINT)
    assert ended.code == 5, ended.err
    assert "File too large" in ended.err.splitlines()[-1] and "Traceback" not in ended.err
    assert read_run(tmp_path / "run").status == "failed"
    assert [(checkpoint.step, checkpoint.files) for checkpoint in sound_checkpoints(tmp_path / "run")] == before
    assert not list((tmp_path / "run").rglob(".*.tmp"))
    assert do(lrlab=["resume", "run"]).code == 0
    assert compare(larger(table), tmp_path / "run") == []


def test_rows_that_do_not_fit_end_the_run_and_it_goes_on_when_there_is_room(do, tmp_path: Path, whole: Path) -> None:
    assert do(kill={"number": 1, "how": "after", "within": "/step-000010/"}).code == -9  # 30 updates are saved
    ended = do(lrlab=["resume", "run"], max_file=10_000)
    assert ended.code == 5
    assert "File too large. Check space and permissions." in ended.err and "Traceback" not in ended.err
    assert [checkpoint.step for checkpoint in sound_checkpoints(tmp_path / "run")] == [30, 20]
    assert do().code == 0
    assert compare(whole, tmp_path / "run") == []


def test_a_signal_that_cannot_be_answered_with_a_checkpoint_says_so(do, tmp_path: Path, wide) -> None:
    wide(100_000)
    ended = do(lrlab=[*TRAIN, "--set", "checkpoint.every=100000"], max_file=LESS_THAN_A_CHECKPOINT, signals=[[3, 15]])
    assert ended.code == 143
    assert "warning: the run could not be saved where it stands (" in ended.err
    assert sound_checkpoints(tmp_path / "run") == []


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """Let no file of this process have more."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_line_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    append_json_lines(path, [{"step": 1}])
    with files_of_at_most(100), pytest.raises(StorageError, match="File too large"):
        append_json_lines(path, [{"step": 2, "why": "x" * 200}])
    append_json_lines(path, [{"step": 3}])
    assert read_json_lines(path, lambda record: None, is_over=True) == [{"step": 1}, {"step": 3}]


def test_a_file_that_does_not_fit_leaves_the_old_one_and_takes_no_space(tmp_path: Path) -> None:
    write_whole(tmp_path / "run.json", b"old")
    with files_of_at_most(100), pytest.raises(StorageError, match="File too large"):
        write_whole(tmp_path / "run.json", b"x" * 200)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_bytes() == b"old"
