"""A rank that is killed, hangs or gets a signal ends all of them, named and saved; torchrun then starts them again."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from kills import compare
from launching import Launched, launch
from lrlab.cli import main
from lrlab.runs import read_run, sound_checkpoints

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc, as Linux alone has it")

LONGER = {
    "steps": 240,
    "checkpoint": {"every": 20},
    "evaluate": {"every": 120},
    "telemetry": {"flush_every": 7, "outputs_every": 1000},  # which would be drawn each time
}

Start = Callable[..., Launched]


@pytest.fixture
def start(tmp_path: Path, config: dict[str, Any]) -> Iterator[Start]:
    """Start the run `run` on two ranks, or what else is named, and wait until it has the first checkpoint."""
    started = []

    def begin(*arguments: str, until: str | None = "checkpoints/step-*", **options: Any) -> Launched:
        (tmp_path / "tiny.toml").write_text(tomli_w.dumps({**config, **LONGER}))
        place = ("train", "--config", str(tmp_path / "tiny.toml"), "--run", str(tmp_path / "run"))
        launched = launch(*(arguments or place), log=tmp_path / f"log{len(started)}", **options)
        started.append(launched)
        if until is not None:
            launched.wait_until(lambda: any((tmp_path / "run").glob(until)))
        return launched

    yield begin
    for launched in started:
        if launched.process.poll() is None:
            launched.end()


def test_after_a_kill_torchrun_starts_all_again_and_the_run_ends_as_if_undisturbed(
    start: Start, tmp_path: Path
) -> None:
    undisturbed = start(until=None)
    assert undisturbed.wait() == 0, undisturbed.text()
    (tmp_path / "run").rename(tmp_path / "undisturbed")

    killed = start(num_restarts=1)
    killed.signal(1, signal.SIGKILL)
    assert killed.wait() == 0, killed.text()

    assert "rank 1 of 2 ended, or did not answer" in killed.text()
    run = read_run(tmp_path / "run")
    assert (run.status, len(run.info["resumed"])) == ("complete", 1)
    assert (run.info["engine"]["ranks"], run.info["engine"]["threads"]) == (
        2,
        max(1, len(os.sched_getaffinity(0)) // 2),
    )
    assert compare(tmp_path / "undisturbed", tmp_path / "run") == []


@pytest.mark.filterwarnings("default:not bit-exact")
def test_a_signal_to_one_rank_saves_the_run_which_goes_on_with_another_number_of_them(
    start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    launched = start()
    launched.signal(1, signal.SIGTERM)
    assert launched.wait() != 0
    assert launched.text().count("stopped; what was recorded so far is kept") == 1

    stopped = read_run(tmp_path / "run")
    assert stopped.status == "preempted"
    assert sound_checkpoints(tmp_path / "run")[0].step == stopped.result["steps"] < 240

    assert main(["resume", str(tmp_path / "run")]) == 0
    assert "warning: not bit-exact" in (said := capfd.readouterr().err)
    assert "ranks: 2 -> 1" in said
    run = read_run(tmp_path / "run")
    assert (run.status, run.result["steps"]) == ("complete", 240)
    assert run.num_ranks_in_turn == (2, 1)
    assert run.series("train/loss")[0].tolist() == list(range(1, 241))


def test_a_rank_that_hangs_is_named_and_ends_all(start: Start, tmp_path: Path) -> None:
    launched = start(environment={"LRLAB_RANK_TIMEOUT": "3"})
    launched.signal(1, signal.SIGSTOP)
    launched.wait_until(lambda: "lrlab: rank 0: rank 1 of 2 ended, or did not answer for 3 s" in launched.text())
    launched.signal(1, signal.SIGCONT)  # torchrun would kill it after 30 s: benchmarks/rank_faults.py waits for that
    assert launched.wait() != 0
    assert launched.ranks() == {}
    assert read_run(tmp_path / "run").status == "failed"
    assert sound_checkpoints(tmp_path / "run")


def test_a_run_goes_on_with_more_ranks_and_what_is_wrong_is_said_before_any_work(
    start: Start, tmp_path: Path, config: dict[str, Any]
) -> None:
    directory = tmp_path / "run"
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps({**config, "steps": 30}))
    assert main(["train", "--config", str(tmp_path / "tiny.toml"), "--run", str(directory)]) == 0

    refused = start("resume", str(directory), "--steps", "60", num_ranks=3, until=None)
    assert refused.wait() != 0
    assert "lrlab: rank 2: batch_size must be a multiple of the number of ranks, 3" in refused.text()

    resumed = start("resume", str(directory), "--steps", "60", until=None)
    assert resumed.wait() == 0, resumed.text()
    run = read_run(directory)
    assert (run.status, run.result["steps"], run.info["engine"]["ranks"]) == ("complete", 60, 2)
    assert run.num_ranks_in_turn == (1, 2)


def test_what_one_process_does_is_refused_under_torchrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(["compare", "runs/demo"]) == 2
    assert capsys.readouterr().err == "lrlab compare: runs in a single process. Start it without torchrun.\n"
