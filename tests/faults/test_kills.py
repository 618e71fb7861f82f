"""A run that is killed and goes on ends as one that was never stopped; benchmarks/kills.py does it many times."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kills import compare
from lrlab.runs import lock_run, read_run, sound_checkpoints

FIVE = [
    {"number": 15, "how": "before"},
    {"number": 40, "how": "torn"},
    {"number": 60, "how": "after"},
    {"number": 9, "how": "after"},
    {"number": 45, "how": "torn"},
]


def test_five_kills_in_one_run_change_nothing(do, tmp_path: Path, whole: Path) -> None:
    for kill in FIVE:
        assert do(kill=kill).code == -9
    assert do().code == 0
    assert compare(whole, tmp_path / "run") == []
    assert 1 <= len(read_run(tmp_path / "run").info["resumed"]) <= 5


INSIDE = {
    "before the manifest": ({"how": "after", "within": ".step-000020.tmp/position.json"}, [10]),
    "half a manifest": ({"how": "torn", "within": ".step-000020.tmp/manifest.json"}, [10]),
    "between manifest and rename": ({"how": "before", "within": "rename"}, [10]),
    "between rename and pruning": ({"how": "after", "within": "rename"}, [20, 10]),
    "in the pruning": ({"how": "after", "within": "/step-000010/"}, [30, 20]),
}


@pytest.mark.parametrize("moment", INSIDE)
def test_a_kill_inside_a_save_leaves_what_was_there_and_nothing_half_done(
    do, tmp_path: Path, whole: Path, moment: str
) -> None:
    kill, left = INSIDE[moment]
    if kill["within"] == "rename":
        kill = {**kill, "within": f"rename {tmp_path}/run/checkpoints/.step-000020.tmp"}
    ended = do(kill={"number": 1, **kill})
    assert (ended.code, ended.killed_at != "") == (-9, True)
    assert [checkpoint.step for checkpoint in sound_checkpoints(tmp_path / "run")] == left
    with lock_run(tmp_path / "run"):
        pass  # the killed process has it no longer
    assert do().code == 0
    assert compare(whole, tmp_path / "run") == []


def test_a_kill_while_a_run_is_taken_up_again_changes_nothing(do, tmp_path: Path, whole: Path) -> None:
    assert do(kill={"number": 1, "how": "before", "within": "rename"}).code == -9
    assert do(kill={"number": 2, "how": "before", "within": "rename"}).code == -9
    for number in range(1, 4):  # in the cutting of rows, of events, in run.json
        assert do(kill={"number": number, "how": "torn"}).code == -9
    assert do().code == 0
    assert compare(whole, tmp_path / "run") == []


def test_a_clock_that_jumps_disturbs_neither_results_nor_durations(do, tmp_path: Path, whole: Path) -> None:
    jumps = [0, 3600, -86_400, 30_000_000, -100_000_000]
    seconds = do(clock=jumps, kill={"number": 1, "how": "after", "within": "rename"}).seconds
    ended = do(clock=[-200_000_000])  # set back between the two, so that the second file of events would come first
    assert ended.code == 0
    assert compare(whole, tmp_path / "run") == []
    assert 0 < read_run(tmp_path / "run").result["train_seconds"] < seconds + ended.seconds
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 41))
