"""A study survives the death of its workers and of itself, and what comes of it is what would have come of it."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kills import compare
from lrlab.config import ConfigError, read_study
from lrlab.runs import read_run, sound_checkpoints
from lrlab.studies import Choice, Died, Ended, Member, Progress, StudyEvent, run_study

PLAN = """
name = "plan"
seeds = [0, 1]
[base]
steps = 150
batch_size = 64
model.width = 2
schedule = { name = "constant" }
checkpoint.every = 5
evaluate.every = 100
telemetry.every = 1000
engine.threads = 1
[arms]
only = {}
"""
PATIENCE = 120.0
"""Seconds; a busy machine takes long to load torch."""


def write(folder: Path, text: str = PLAN) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "plan.toml"
    path.write_text(text)
    return path


def seed_folder(path: Path, seed: int) -> Path:
    return path.parent / "runs" / "plan" / "only" / f"seed{seed}"


def kill_owner(directory: Path) -> None:
    os.kill(json.loads((directory / "run.json").read_text())["owner"]["pid"], signal.SIGKILL)


def has_checkpoint(directory: Path) -> bool:
    return any(directory.glob("checkpoints/step-*/manifest.json"))


def happenings(path: Path, workers: int | None) -> "list[tuple[Member, StudyEvent]]":
    found = []
    for happening in run_study(read_study(path), path, root=path.parent / "runs", workers=workers):
        assert not isinstance(happening, Choice)
        found.append(happening)
    return found


def ends(events: "list[tuple[Member, StudyEvent]]") -> dict[int, str]:
    return {member.seed: event.outcome for member, event in events if isinstance(event, Ended)}


def test_what_workers_warn_of_while_they_are_stopped_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "study", PLAN.replace("checkpoint.every = 5\n", ""))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60 * 1024, hard))  # the worker's too: no checkpoint fits
    try:
        events = run_study(read_study(path), path, root=path.parent / "runs", workers=1)
        for _, event in events:
            if isinstance(event, Progress):
                break
        with pytest.warns(UserWarning, match="only seed 0: the run could not be saved where it stands"):
            events.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_run(seed_folder(path, 0)).status == "preempted"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study with its runs made one by one, in this process."""
    path = write(tmp_path_factory.mktemp("undisturbed"))
    assert ends(happenings(path, None)) == {0: "complete", 1: "complete"}
    return path


def test_a_run_whose_process_is_killed_goes_on_in_another_and_ends_as_if_it_had_not_been(
    tmp_path: Path, undisturbed: Path
) -> None:
    path, events = write(tmp_path), []
    for member, event in run_study(read_study(path), path, root=tmp_path / "runs", workers=2):
        events.append((member, event))
        is_first = not any(isinstance(one, Died) for _, one in events)
        if isinstance(event, Progress) and is_first and member.seed == 0 and has_checkpoint(member.directory):
            kill_owner(member.directory)
    deaths = {(member.seed, event.how) for member, event in events if isinstance(event, Died)}
    assert deaths == {(0, "by SIGKILL")}
    assert ends(events) == {0: "complete", 1: "complete"}
    assert read_run(seed_folder(path, 0)).info["resumed"][0]["status"] == "running"
    for seed in (0, 1):
        assert compare(seed_folder(undisturbed, seed), seed_folder(path, seed)) == []


def test_a_run_over_which_three_processes_die_has_failed_and_the_others_have_not(tmp_path: Path) -> None:
    path, events = write(tmp_path, PLAN.replace("steps = 150", "steps = 40")), []
    for member, event in run_study(read_study(path), path, root=tmp_path / "runs", workers=1):
        events.append((member, event))
        if isinstance(event, Progress) and member.seed == 0:
            kill_owner(member.directory)
    assert [type(event) for member, event in events if member.seed == 0 and isinstance(event, Died | Ended)] == [
        Died,
        Died,
        Ended,
    ]
    assert ends(events) == {0: "failed", 1: "complete"}
    (message,) = (event.message for _, event in events if isinstance(event, Ended) and event.message)
    assert message == "its process died 3 times, the last time by SIGKILL"


def start_study(path: Path, workers: int) -> subprocess.Popen[str]:
    """Start a study in a process of its own, and return once it has a checkpoint."""
    command = [sys.executable, "-m", "lrlab", "study", path.name, "--workers", str(workers)]
    process = subprocess.Popen(command, cwd=path.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE
    while not has_checkpoint(seed_folder(path, 0)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_a_study_that_is_killed_leaves_no_process_behind_and_is_completed_by_repeating_it(
    tmp_path: Path, undisturbed: Path
) -> None:
    path = write(tmp_path)
    process = start_study(path, 1)
    process.kill()
    process.communicate(timeout=PATIENCE)
    directory, deadline = seed_folder(path, 0), time.monotonic() + PATIENCE
    while (status := read_run(directory).status) == "running":  # the worker notices, saves and ends
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert status == "preempted"
    assert not seed_folder(path, 1).exists()
    assert ends(happenings(path, None)) == {0: "complete", 1: "complete"}
    for seed in (0, 1):
        assert compare(seed_folder(undisturbed, seed), seed_folder(path, seed)) == []


def test_a_signal_saves_every_run_under_way(tmp_path: Path) -> None:
    path = write(tmp_path, PLAN.replace("steps = 150", "steps = 100000"))
    process = start_study(path, 2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err.splitlines()) == (
        143,
        [
            "lrlab: finishing the current update, then saving and stopping; repeat to stop at once",
            "lrlab: stopped; what was recorded so far is kept.",
        ],
    )
    begun = list((tmp_path / "runs" / "plan" / "only").iterdir())
    assert begun
    for directory in begun:
        run = read_run(directory)
        assert run.status == "preempted"
        assert sound_checkpoints(directory)[0].step == run.result["steps"]


def test_workers_refuse_and_warn_as_this_process_does(tmp_path: Path) -> None:
    late = 'only = { schedule = { name = "article", check_every = 1000 } }'
    path = write(tmp_path, PLAN.replace("only = {}", f"{late}\nwide = {{ batch_size = 5000 }}"))
    with (
        pytest.warns(UserWarning, match="^only seed 0: schedule 'article' decides after"),
        pytest.raises(ConfigError, match="arm 'wide': batch_size must be at most"),
    ):
        happenings(path, 1)
    assert not (tmp_path / "runs").exists()
