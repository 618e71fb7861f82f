"""Rows are written by a thread, and what the disk says of it reaches whoever gave them."""

import contextlib
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from lrlab.config import parse_config
from lrlab.runs import RunWriter, StorageError, read_run

CONFIG = parse_config({"steps": 4})


def rows(*steps: int) -> dict[str, np.ndarray]:
    return {"step": np.array(steps), "epoch": np.ones(len(steps), np.int64), "train/loss": np.ones(len(steps))}


def replace_by_a_file(folder: Path) -> None:
    """What root cannot write to either."""
    folder.rmdir()
    folder.touch()


def repair(folder: Path) -> None:
    folder.unlink()
    folder.mkdir()


def steps_of(directory: Path) -> list[int]:
    return [int(step) for step in read_run(directory).series("train/loss")[0]]


def test_an_error_of_the_thread_is_raised_and_the_rows_are_written_once_they_can_be(tmp_path: Path) -> None:
    metrics = tmp_path / "run" / "metrics"
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        replace_by_a_file(metrics)
        writer.write_rows(rows(1, 2))
        with pytest.raises(StorageError, match=r"part-000000001.*: Not a directory"):
            writer.wait()
        repair(metrics)
        with contextlib.suppress(StorageError):  # it may have been tried again before the repair
            writer.wait()
        writer.write_rows(rows(3))
        writer.finish("complete", {})
    assert steps_of(tmp_path / "run") == [1, 2, 3]


def test_rows_given_after_an_error_raise_it_and_may_be_given_again(tmp_path: Path) -> None:
    metrics = tmp_path / "run" / "metrics"
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        replace_by_a_file(metrics)
        writer.write_rows(rows(1))
        given = []
        with pytest.raises(StorageError):
            for step in range(2, 100):  # at the latest once no more may wait
                writer.write_rows(rows(step))
                given.append(step)
        repair(metrics)
        with contextlib.suppress(StorageError):  # as above
            writer.wait()
        writer.write_rows(rows(step))
    assert steps_of(tmp_path / "run") == [1, *given, step]


@pytest.mark.parametrize("status", ["complete", "preempted"])
def test_a_run_whose_rows_are_not_on_disk_is_not_said_to_be_complete(tmp_path: Path, status: str) -> None:
    with pytest.raises(StorageError), RunWriter(tmp_path / "run", CONFIG) as writer:
        replace_by_a_file(tmp_path / "run" / "metrics")
        writer.write_rows(rows(1))
        writer.finish(status, {"steps": 1})  # type: ignore[arg-type]
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (info["status"], info["result"]) == ("failed" if status == "complete" else status, {"steps": 1})


def test_leaving_the_context_waits_for_the_rows(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        for step in range(1, 30):
            writer.write_rows(rows(step))
    assert steps_of(tmp_path / "run") == list(range(1, 30))


def test_leaving_the_context_raises_what_the_thread_met_and_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(StorageError), RunWriter(tmp_path / "run", CONFIG) as writer:
        replace_by_a_file(tmp_path / "run" / "metrics")
        writer.write_rows(rows(1))
    with RunWriter(tmp_path / "run", CONFIG, resumes=True) as writer:
        writer.finish("complete", {})


def test_a_disk_that_is_full_for_good_ends_the_run_as_failed_with_what_was_written(tmp_path: Path) -> None:
    """No file may have more than 20,000 bytes: enough for some parts, too little for all events."""
    pytest.importorskip("resource", reason="limits the size of files as only POSIX can")
    code = f"""
        import resource, signal
        from pathlib import Path
        from lrlab.config import parse_config
        from lrlab.experiments import Experiment
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        telemetry = {{"every": 1, "flush_every": 5}}
        config = parse_config({{"model": {{"width": 2}}, "steps": 60, "batch_size": 8, "telemetry": telemetry}})
        run = Experiment(config).run(Path({str(tmp_path / "run")!r}))
        next(run)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        list(run)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert "StorageError" in done.stderr.splitlines()[-1], done.stderr
    assert "File too large. Check space and permissions." in done.stderr
    assert read_run(tmp_path / "run").status == "failed"
    steps = steps_of(tmp_path / "run")
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 10
