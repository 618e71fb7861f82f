"""A run directory that is taken up again: what goes, what stays, and what is refused."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from lrlab.config import parse_config
from lrlab.runs import RunError, RunWriter, StorageError, read_run, sound_checkpoints
from lrlab.runs.afterwards import later_rows
from lrlab.runs.checkpoints import checkpoint_paths, write_checkpoint
from lrlab.runs.events import EventWriter
from lrlab.runs.rewind import rewind
from lrlab.runs.rows import write_part

CONFIG = parse_config({"steps": 4})
LONGER = parse_config({"steps": 8})
STATE = {"model.safetensors": b"weights", "state.pt": b"state"}


def rows(*steps: int) -> dict[str, np.ndarray]:
    return {"step": np.array(steps), "epoch": np.ones(len(steps), np.int64), "train/loss": np.array(steps, float)}


def evaluate(writer: RunWriter, step: int) -> None:
    record: dict[str, Any] = {"step": step, "split": "test", "loss": 1.0, "accuracy": 0.5}
    png = b"\x89PNG" + bytes(12) + (1).to_bytes(4, "big") * 2
    writer.write_evaluation(record, png=png)


def decision(step: int) -> dict[str, Any]:
    return {"step": step, "decision": "keep", "lr_before": [0.1], "lr_after": [0.1]}


def steps_of(records: list[dict[str, Any]]) -> list[int]:
    return [record["step"] for record in records]


def test_what_came_after_the_checkpoint_goes_and_what_came_before_stays(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_rows(rows(1, 2))
        writer.write_decisions([decision(2)])
        evaluate(writer, 2)
        writer.write_checkpoint(2, STATE, keep=2)
        writer.write_rows(rows(3, 4))
        writer.write_decisions([decision(3)])
        evaluate(writer, 4)
        writer.wait()
    with RunWriter(tmp_path / "run", CONFIG, resumes=True) as writer:
        assert writer.checkpoint is not None and writer.checkpoint.step == 2
        run = read_run(tmp_path / "run")
        assert list(run.series("train/loss")[0]) == [1, 2]
        assert (steps_of(run.evaluations()), steps_of(run.decisions())) == ([2], [2])
        assert [path.name for path in (tmp_path / "run" / "confusion").iterdir()] == ["step-000002.png"]


def test_what_was_measured_later_stays_in_tensorboard_as_in_the_rows(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with RunWriter(run, CONFIG) as writer:
        writer.write_rows(rows(1, 2))
        writer.write_checkpoint(2, STATE, keep=2)
        writer.write_rows(rows(3, 4))
        writer.finish("complete", {"steps": 4})
    for _ in range(2):  # it goes on twice
        with later_rows(run, "sharpness", how={}) as (_, add):
            add(2, {"hessian_max/whole": 3.0, "hessian_trace/whole": None})
            add(4, {"hessian_max/whole": 5.0})
        (run / "run.json").write_text(json.dumps({**read_run(run).info, "status": "preempted"}))
        with RunWriter(run, CONFIG, resumes=True) as writer:
            assert writer.checkpoint is not None and writer.checkpoint.step == 2
        assert [column.tolist() for column in read_run(run).series("hessian_max/whole")] == [[2], [3.0]]
        found = [
            (event.step, value.tag, value.simple_value)
            for path in run.glob("events.out.tfevents.*")
            for event in EventFileLoader(str(path)).Load()
            for value in event.summary.value
            if value.tag.startswith("hessian")
        ]
        assert [(step, tag) for step, tag, _ in found] == [(2, "hessian_max/whole")]


def test_an_evaluation_that_came_after_the_checkpoint_of_its_update_is_there_once(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_rows(rows(1, 2))
        writer.write_checkpoint(2, STATE, keep=2)  # stopped between the update and its evaluation
    for _ in range(2):  # it is made, and the process killed; and so again
        with RunWriter(tmp_path / "run", CONFIG, resumes=True) as writer:
            assert read_run(tmp_path / "run").evaluations() == []
            evaluate(writer, 2)
            writer.wait()
    assert steps_of(read_run(tmp_path / "run").evaluations()) == [2]


def test_the_order_of_checkpoints_is_that_of_their_numbers(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    for step in (999_999, 1_000_000, 999_998):
        write_checkpoint(run, step, STATE, keep=3)
    assert [path.name for path in checkpoint_paths(run)] == ["step-1000000", "step-999999", "step-999998"]
    (run / "metrics").mkdir()
    write_part(run / "metrics" / "part-000000001.parquet", pa.table({"step": np.arange(1, 1_000_001)}))
    rewind(run, 999_999, sizes={})
    assert [path.name for path in checkpoint_paths(run)] == ["step-999999", "step-999998"]


def test_a_complete_run_whose_checkpoints_were_deleted_is_left_as_it_is(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_rows(rows(1, 2, 3, 4))
        writer.write_checkpoint(4, STATE, keep=2)
        writer.finish("complete", {})
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(RunError, match="the run is complete and its checkpoints are gone. Restore one"):
        RunWriter(tmp_path / "run", LONGER, resumes=True)
    assert list(read_run(tmp_path / "run").series("train/loss")[0]) == [1, 2, 3, 4]


def test_a_run_that_is_taken_up_keeps_so_many_checkpoints_as_its_configuration_says(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        for step in (1, 2, 3, 4):
            writer.write_rows(rows(step))
            writer.write_checkpoint(step, STATE, keep=4)
    with RunWriter(tmp_path / "run", CONFIG, resumes=True):
        assert [checkpoint.step for checkpoint in sound_checkpoints(tmp_path / "run")] == [4, 3]


def test_the_event_file_of_a_clock_that_was_set_back_comes_after_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([2e9, 1e9, 1.5e9])
    monkeypatch.setattr("time.time", lambda: next(seconds))
    for _ in range(3):
        EventWriter(tmp_path).close()
    began = [path.name.split(".")[3] for path in sorted(tmp_path.iterdir())]
    assert began == ["2000000000", "2000000001", "2000000002"]


def test_rows_that_are_missing_are_noticed_before_the_run_goes_on_without_them(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        for step in (1, 2, 3):
            writer.write_rows(rows(step))
        writer.write_checkpoint(3, STATE, keep=2)
    (tmp_path / "run" / "metrics" / "part-000000002.parquet").unlink()  # a copy that left it out, say
    with pytest.raises(StorageError, match="metrics: damaged, it has rows of 2 updates and had 3 at the checkpoint"):
        RunWriter(tmp_path / "run", CONFIG, resumes=True)


@pytest.mark.parametrize("saved", [True, False])
def test_a_run_that_was_stopped_before_it_could_be_saved_begins_anew_and_one_that_was_saved_does_not(
    tmp_path: Path, saved: bool
) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_rows(rows(1, 2))
        if saved:
            writer.write_checkpoint(2, STATE, keep=2)
        writer.finish("preempted", {})
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    if saved:
        with pytest.raises(RunError, match="preempted and its checkpoints are gone"):
            RunWriter(tmp_path / "run", CONFIG, resumes=True)
    else:
        with RunWriter(tmp_path / "run", CONFIG, resumes=True) as writer:
            assert writer.checkpoint is None
        assert read_run(tmp_path / "run").columns == ()


def test_beginning_anew_takes_what_the_run_wrote_and_leaves_what_somebody_else_did(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with RunWriter(run, CONFIG) as writer:  # killed before its first checkpoint
        writer.write_rows(rows(1, 2))
        evaluate(writer, 2)
        writer.write_decisions([decision(2)])
    for name in ("notes.md", "mine/plot.py", "export/model.safetensors", "figures/loss.png", ".left.1.tmp"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).touch()
    with RunWriter(run, CONFIG, resumes=True):
        pass
    found = {path.name for path in run.iterdir() if path.is_file() or any(path.iterdir())}
    assert {name for name in found if "tfevents" not in name} == {
        "config.toml", "export", "mine", "notes.md", "run.json", ".lock"
    }  # fmt: skip
    assert len([name for name in found if "tfevents" in name]) == 1


def test_a_directory_that_was_deleted_under_a_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"), RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_rows(rows(1))
        writer.wait()
        shutil.rmtree(tmp_path / "run")
        writer.write_checkpoint(1, STATE, keep=2)
        writer.wait()
        assert writer.checkpoint_problem is not None
        writer.write_rows(rows(2))
        writer.finish("complete", {})


def test_rows_and_their_names_are_on_disk_before_the_checkpoint_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut may take, as far as the calls tell: it takes what was not synced."""
    calls: list[str] = []
    sync, rename, replace = os.fsync, os.rename, os.replace
    if not Path("/proc/self/fd").exists():
        pytest.skip("names of open files are looked up in /proc")

    def note_sync(descriptor: int) -> None:
        calls.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().relative_to(tmp_path / 'run')}")
        sync(descriptor)

    def note(call: Any) -> Any:
        def noted(source: Any, target: Any, **options: Any) -> None:
            calls.append(f"name {Path(target).relative_to(tmp_path / 'run')}")
            call(source, target, **options)

        return noted

    with RunWriter(tmp_path / "run", CONFIG) as writer:
        monkeypatch.setattr("os.fsync", note_sync)
        monkeypatch.setattr("os.rename", note(rename))
        monkeypatch.setattr("os.replace", note(replace))
        writer.write_rows(rows(1, 2))
        writer.write_checkpoint(2, STATE, keep=2)
        writer.wait()
    part, checkpoint = "metrics/part-000000001.parquet", "checkpoints/step-000002"
    aside = "checkpoints/.step-000002.tmp"
    order = [f"name {part}", "sync metrics", f"sync {aside}/state.pt", f"sync {aside}/manifest.json", f"sync {aside}"]
    order += [f"name {checkpoint}", "sync checkpoints", "name checkpoints/latest"]
    assert [call for call in calls if call in order] == order
    assert calls[0].startswith("sync metrics/.part-000000001.parquet")
    events = next(call for call in calls if call.startswith("sync events.out"))
    assert calls.index(events) < calls.index(f"sync {aside}/state.pt")


def test_run_json_tells_of_each_time_that_a_run_was_taken_up(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_rows(rows(1, 2))
        writer.write_checkpoint(2, STATE, keep=2)
    for _ in range(2):
        with RunWriter(tmp_path / "run", CONFIG, resumes=True):
            pass
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [(one["step"], one["status"]) for one in info["resumed"]] == [(2, "running"), (2, "running")]


@pytest.mark.parametrize(("engine", "num_ranks"), [({"ranks": 2}, 2), ({"threads": 1}, 1)])  # before ranks were counted
def test_run_json_tells_how_many_processes_made_a_run_until_it_was_taken_up(
    tmp_path: Path, engine: dict[str, int], num_ranks: int
) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.describe(engine=engine)
        writer.write_rows(rows(1, 2))
        writer.write_checkpoint(2, STATE, keep=2)
    with RunWriter(tmp_path / "run", CONFIG, resumes=True) as writer:
        writer.describe(engine={"ranks": 4})
    run = read_run(tmp_path / "run")
    assert [one["ranks"] for one in run.info["resumed"]] == [num_ranks]
    assert (run.num_ranks_in_turn, run.num_ranks) == ((num_ranks, 4), 4)
