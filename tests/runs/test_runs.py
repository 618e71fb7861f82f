"""The run directory: what is written is what is read, whole or not at all."""

import errno
import fcntl
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrlab.config import parse_config, to_table
from lrlab.runs import LockedError, RunError, RunWriter, StorageError, find_runs, lock_run, read_run

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x02\x00\x00\x00\x03" + b"\x00" * 8
CONFIG = parse_config({"steps": 4})


def rows(*steps: int, grads: dict[int, float] | None = None) -> dict[str, Any]:
    """Rows of these updates; grad_l2 was measured at some of them."""
    measured = grads or {}
    return {
        "step": np.array(steps),
        "epoch": np.ones(len(steps), np.int64),
        "train/loss": np.array([1.0 / step for step in steps], np.float32),
        "lr/stem": np.full(len(steps), 0.1),
        "grad_l2/stem": np.ma.array(
            [measured.get(step, 0.0) for step in steps], np.float32, mask=[step not in measured for step in steps]
        ),
    }


def decision(step: int) -> dict[str, Any]:
    return {"step": step, "decision": "keep", "lr_before": [0.1], "lr_after": [0.1]}


def evaluation(step: int) -> dict[str, Any]:
    return {"step": step, "epoch": 1, "split": "test", "loss": 0.5, "accuracy": 0.75, "class_accuracy": [0.5, None]}


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.describe(data={"classes": ["a", "b"]})
        writer.write_rows(rows(1, 2, grads={2: 5.0}))
        writer.write_rows(rows())
        writer.write_rows(rows(3, 4, grads={4: 6.0}))
        writer.write_evaluation(evaluation(4), png=PNG)
        writer.write_decisions([decision(4)])
        writer.finish("complete", {"steps": 4})
    run = read_run(tmp_path / "run")
    assert (run.status, run.result, run.config, run.seed, run.arm) == (
        "complete",
        {"steps": 4},
        to_table(CONFIG),
        0,
        "run",
    )
    assert run.columns == ("step", "epoch", "train/loss", "lr/stem", "grad_l2/stem")
    assert [list(values) for values in run.series("train/loss")] == [
        [1, 2, 3, 4],
        list(np.float32([1, 1 / 2, 1 / 3, 1 / 4])),
    ]
    assert [list(values) for values in run.series("grad_l2/stem")] == [[2, 4], [5.0, 6.0]]
    assert run.evaluations() == [evaluation(4)]
    assert run.decisions() == [decision(4)]
    assert (tmp_path / "run" / "confusion" / "step-000004.png").read_bytes() == PNG
    assert run.info["data"] == {"classes": ["a", "b"]}


def test_a_complete_run_has_its_rows_in_one_file(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_rows(rows(1))
        writer.write_rows(rows(2))
        writer.wait()
        assert len(list((tmp_path / "run" / "metrics").iterdir())) == 2
        assert list(read_run(tmp_path / "run").series("train/loss")[0]) == [1, 2]  # a running one can be read
        writer.finish("complete", {})
    assert [path.name for path in (tmp_path / "run" / "metrics").iterdir()] == ["part-000000001.parquet"]
    assert list(read_run(tmp_path / "run").series("train/loss")[0]) == [1, 2]


def test_a_part_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    """As a reader finds it between the merged file and the removal of the parts."""
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_rows(rows(1, 2))
        writer.write_rows(rows(2, 3))
    assert list(read_run(tmp_path / "run").series("train/loss")[0]) == [1, 2, 3]


def test_json_has_null_for_what_is_no_finite_number(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_decisions([{**decision(4), "slope": float("nan"), "means": [float("inf"), 0.5]}])
        writer.finish("diverged", {"test_loss": float("inf")})
    assert read_run(tmp_path / "run").decisions() == [{**decision(4), "slope": None, "means": [None, 0.5]}]
    assert read_run(tmp_path / "run").result == {"test_loss": None}


def test_a_run_without_rows_can_be_read(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG):
        pass
    run = read_run(tmp_path / "run")
    assert (run.status, run.columns, run.evaluations(), run.decisions()) == ("running", (), [], [])


def test_a_line_without_its_end_is_not_read(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_decisions([decision(1)])
    with (tmp_path / "run" / "decisions.jsonl").open("a") as file:
        file.write('{"step": 2, "decis')
    assert read_run(tmp_path / "run").decisions() == [decision(1)]


def test_a_directory_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG):
        pass
    with pytest.raises(RunError, match="already holds a run. Choose another directory with --run"):
        RunWriter(tmp_path / "run", CONFIG)


def test_a_directory_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunError, match="is not empty and holds no run"):
        RunWriter(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunError, match="is not empty and holds no run"):
        RunWriter(tmp_path, CONFIG, resumes=True)
    assert (tmp_path / "thesis.tex").exists()


def test_a_run_that_was_cut_short_before_a_checkpoint_begins_anew_and_one_that_is_over_does_not(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_rows(rows(1, 2))
    with RunWriter(tmp_path / "run", CONFIG, resumes=True) as writer:
        assert read_run(tmp_path / "run").columns == ()
        writer.finish("complete", {})
    with pytest.raises(RunError, match="the run is complete. To continue it, give more --epochs or --steps"):
        RunWriter(tmp_path / "run", CONFIG, resumes=True)


def test_a_writer_that_fails_in_its_constructor_gives_the_lock_back(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").mkdir()  # in the way
    with pytest.raises(RunError) as error:
        RunWriter(tmp_path / "run", CONFIG)
    with lock_run(tmp_path / "run"):
        assert error.value is not None  # while the exception, and what it holds, is alive


def test_a_path_that_cannot_be_a_directory_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file.*: Not a directory"):
        RunWriter(tmp_path / "file" / "run", CONFIG)


def test_a_full_disk_is_a_storage_error_that_names_the_file(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full, the device that is always full")
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        (tmp_path / "run" / "decisions.jsonl").symlink_to("/dev/full")
        with pytest.raises(StorageError, match=r"decisions.jsonl: No space left on device"):
            writer.write_decisions([{"step": 1}])


@pytest.mark.parametrize(
    "refusal",
    [
        OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)),
        OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP)),
        NotImplementedError("FileSystem does not appear to support flock"),  # filelock's own, before its #480
    ],
)
def test_a_file_system_without_locks_is_said_with_where_else_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise refusal

    monkeypatch.setattr(fcntl, "flock", refuse)  # such a file system takes a mount, which tests may not make
    with pytest.raises(
        StorageError, match="its file system does not support locks.* Use another file system: by --run"
    ):
        RunWriter(tmp_path / "run", CONFIG)


def test_a_second_process_is_told_who_has_the_run(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG):
        code = (
            "from lrlab.runs import lock_run; from pathlib import Path;"
            f"lock_run(Path({str(tmp_path / 'run')!r})).__enter__()"
        )
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        f"LockedError: {tmp_path / 'run'}: another process is writing this run (process {os.getpid()} on"
        in other.stderr
    )


def test_whoever_measures_a_run_is_not_taken_for_who_made_it(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.finish("complete", {"steps": 0})
    code = (
        "from lrlab.runs import lock_run; from pathlib import Path; import sys; lock_run(Path(sys.argv[1])).__enter__()"
    )
    with lock_run(tmp_path / "run"):
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True)
    assert f"LockedError: {tmp_path / 'run'}: another process is writing this run.\n" in other.stderr


def test_a_lock_is_free_once_its_process_is_gone(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from lrlab.runs import lock_run;"
        f"lock_run(Path({str(tmp_path)!r})).__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    with lock_run(tmp_path):
        pass


def test_in_one_process_too_a_run_has_one_writer(tmp_path: Path) -> None:
    with lock_run(tmp_path), pytest.raises(LockedError), lock_run(tmp_path):
        pass
    with lock_run(tmp_path):
        pass  # free again, at once


@pytest.mark.parametrize(
    ("name", "content"),
    [("metrics/part-000000001.parquet", b"PAR1 no parquet"), ("decisions.jsonl", b'{"step": 1\n{}\n')],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_rows(rows(1))
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(StorageError, match=rf"{name}(, line 1)?: damaged"):
        (read_run(tmp_path / "run").series("train/loss"), read_run(tmp_path / "run").decisions())


def test_rows_can_be_read_while_they_are_merged(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        code = (
            "from pathlib import Path; from lrlab.runs import read_run\n"
            f"run = Path({str(tmp_path / 'run')!r})\n"
            "while read_run(run).status == 'running':\n"
            "    steps, _ = read_run(run).series('train/loss')\n"
            "    assert list(steps) == list(range(1, len(steps) + 1)), steps\n"
        )
        writer.write_rows(rows(1))
        writer.wait()
        with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as reader:
            for start in range(2, 402, 4):
                for step in range(start, start + 4):
                    writer.write_rows(rows(step))
                writer.wait()
                writer._merge_parts()
            writer.finish("complete", {})
            assert reader.wait(timeout=60) == 0, reader.stderr.read() if reader.stderr else ""


def test_a_measured_nan_is_a_value_and_what_was_not_measured_is_none(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_rows(rows(1, 2, 3, grads={1: 2.0, 3: math.nan}))
    steps, values = read_run(tmp_path / "run").series("grad_l2/stem")
    assert list(steps) == [1, 3]
    assert values[0] == 2.0
    assert np.isnan(values[1])


def test_a_quantity_is_read_where_some_parts_have_none_of_it_and_others_are_more_exact(tmp_path: Path) -> None:
    """A probe that has not measured yet cannot say how exact it will be."""
    exact = {**rows(3, 4), "grad_l2/stem": np.array([0.1, 0.2])}
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_rows(rows(1, 2))
        writer.write_rows(exact)
        writer.wait()
        running = read_run(tmp_path / "run").series("grad_l2/stem")
        writer.finish("complete", {})
    for steps, values in (running, read_run(tmp_path / "run").series("grad_l2/stem")):
        assert (list(steps), list(values)) == ([3, 4], [0.1, 0.2])


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG):
        pass
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(RunError, match="its format_version is 99, this lrlab reads 1"):
        read_run(tmp_path / "run")


def test_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        read_run(tmp_path)
    with pytest.raises(RunError, match="not a run or study. Name"):
        find_runs(tmp_path)


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG) as writer:
        writer.write_rows(rows(1))
    with pytest.raises(RunError, match="no column 'loss'. It has: step, epoch, train/loss"):
        read_run(tmp_path / "run").series("loss")


def test_a_run_within_another_is_refused(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", CONFIG):
        pass
    with pytest.raises(
        RunError, match=r"run/of/mine is inside another run, .*/run\. Choose another directory with --run"
    ):
        RunWriter(tmp_path / "run" / "of" / "mine", CONFIG)
    assert not (tmp_path / "run" / "of").exists()


def test_a_study_is_read_by_arm_and_seed(tmp_path: Path) -> None:
    for arm in ("b", "a"):
        for seed in (1, 0):
            with RunWriter(tmp_path / arm / f"seed{seed}", parse_config({"seed": seed})):
                pass
    (tmp_path / "study.toml").touch()
    assert [(run.arm, run.seed) for run in find_runs(tmp_path)] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_a_study_is_what_its_file_has_in_that_order(tmp_path: Path) -> None:
    for arm, seed in (("d", 0), ("c", 0), ("c", 1), ("b", 0), ("b", 2), ("a", 0)):
        with RunWriter(tmp_path / arm / f"seed{seed}", parse_config({"seed": seed})):
            pass
    (tmp_path / "study.toml").write_text('seeds = [0, 1]\n[arms]\nc = {}\nmissing = {}\n"a" = { epochs = 2 }\n')
    with pytest.warns(UserWarning, match=r"left out, since study.toml no longer has them: b seeds 0, 2; d seed 0\."):
        assert [(run.arm, run.seed) for run in find_runs(tmp_path)] == [("c", 0), ("c", 1), ("a", 0)]
    (tmp_path / "study.toml").write_text("seeds = [0]\n[arms]\na = {}\nb = {}\nc = {}\nd = {}\n")
    with pytest.warns(UserWarning, match="no longer has them: b seed 2; c seed 1"):
        assert [(run.arm, run.seed) for run in find_runs(tmp_path)] == [(arm, 0) for arm in "abcd"]
    for run in list(tmp_path.glob("*/seed[12]")):
        shutil.rmtree(run)
    (tmp_path / "study.toml").write_text("seeds = [0]\n[arms]\nnew = {}\n")  # nothing of it was run yet
    assert [run.arm for run in find_runs(tmp_path)] == ["a", "b", "c", "d"]
    (tmp_path / "study.toml").write_text("[arms")
    with pytest.warns(UserWarning, match=r"study\.toml.* Arms are listed alphabetically"):
        assert [run.arm for run in find_runs(tmp_path)] == ["a", "b", "c", "d"]
    (tmp_path / "study.toml").write_text("arms = 3\n")
    assert [run.arm for run in find_runs(tmp_path)] == ["a", "b", "c", "d"]


def test_a_run_is_of_a_study_only_where_a_study_would_have_put_it(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("name = 'mine'\n")
    for place in ("runs/first", "arm/seed0"):
        with RunWriter(tmp_path / place, parse_config({"steps": 1})):
            pass

    loose, member = read_run(tmp_path / "runs" / "first"), read_run(tmp_path / "arm" / "seed0")

    assert (loose.study, loose.arm) == (None, "first")
    assert (member.study, member.arm) == (tmp_path.name, "arm")


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_an_arm_that_is_a_link_has_the_links_name(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.toml").write_text("name = 'study'\n")
    with RunWriter(tmp_path / "elsewhere" / "seed0", parse_config({"steps": 1})):
        pass
    (tmp_path / "study" / "a").symlink_to(tmp_path / "elsewhere")

    (run,) = find_runs(tmp_path / "study")

    assert (run.study, run.arm) == ("study", "a")
