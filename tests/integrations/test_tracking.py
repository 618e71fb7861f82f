"""What a run recorded is what trackio, MLflow and Weights & Biases have of it, once each, in their offline modes."""

import json
import math
import shutil
import sqlite3
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrlab.cli import main
from lrlab.config import parse_config
from lrlab.experiments import Experiment, Update
from lrlab.integrations.recorded import read_recordings
from lrlab.integrations.tracking import KINDS, Kind, Sender, TrackerError, send_runs
from lrlab.runs import LockedError, Run, RunWriter, read_run
from lrlab.runs.events import MAX_POINTS
from lrlab.runs.lock import lock_file
from lrlab.runs.storage import TRACKED

pytestmark = [pytest.mark.usefixtures("blank_pictures"), pytest.mark.filterwarnings("ignore")]  # warnings of theirs

for library in KINDS:
    pytest.importorskip(library, reason="pip install 'lrlab[trackers]'")

CONFIG = {
    "model": {"width": 2},
    "steps": 20,
    "batch_size": 16,
    "schedule": {"name": "constant"},
    "evaluate": {"every": 10},
    "telemetry": {"flush_every": 4},
}

History = dict[str, dict[int, list[float]]]
"""Tag -> update -> what was logged there."""


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each tracker keeps what it is given in the test's folder."""
    (tmp_path / "wandb-files").mkdir()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "wandb-files"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "trackio")
    import wandb

    wandb.teardown()  # it reads its variables once a process, in which other tests may have used it
    yield
    wandb.teardown()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 20 updates."""
    directory = tmp_path / "runs" / "first"
    list(Experiment(parse_config(CONFIG)).run(directory))
    return directory


def kept(kind: Kind, folder: Path) -> History:
    """What a tracker has of the one run that it knows."""
    if kind == "wandb":
        return kept_offline(folder)
    found: History = {}
    for tag, step, value in of_mlflow(folder) if kind == "mlflow" else of_trackio(folder):
        found.setdefault(tag, {}).setdefault(step, []).append(value)
    return found


def of_mlflow(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Every value of the one run, as often as MLflow has it."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    [run] = client.search_runs([one.experiment_id for one in client.search_experiments()])
    for tag in run.data.metrics:
        yield from ((tag, one.step, one.value) for one in client.get_metric_history(run.info.run_id, tag))


def of_trackio(folder: Path) -> Iterator[tuple[str, int, float]]:
    """The same of trackio, which writes a word for what is not finite."""
    with closing(sqlite3.connect(folder / "trackio" / "lrlab.db")) as database:
        rows = database.execute("SELECT run_id, step, metrics FROM metrics").fetchall()
    assert len({key for key, _, _ in rows}) == 1
    for _, step, metrics in rows:
        yield from ((tag, step, float(value)) for tag, value in json.loads(metrics).items())


def kept_offline(folder: Path) -> History:
    """The same of Weights & Biases' offline files: their records are in LevelDB's log format."""
    found: History = {}
    for file in sorted(folder.glob("wandb-files/wandb/offline-run-*/*.wandb")):
        for record in records_of(file):
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for tag, value in row.items():
                if tag != "step" and not tag.startswith("_"):
                    found.setdefault(tag, {}).setdefault(row["step"], []).append(float(value))
    return found


def records_of(file: Path, *, patience: float = 60.0) -> list[Any]:
    """All records of an offline run, once its last one is there: another process writes them."""
    from wandb.proto.wandb_internal_pb2 import Record

    until = time.monotonic() + patience
    while True:
        records = [Record.FromString(content) for content in level_db_records(file.read_bytes()[7:])]
        if any(record.HasField("exit") for record in records) or time.monotonic() > until:
            return records
        time.sleep(0.1)


def level_db_records(content: bytes) -> Iterator[bytes]:
    at, parts, before = 0, b"", 7  # the file's own header is part of the first block
    while at + 7 <= len(content):
        left = 32_768 - (at + before) % 32_768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts = (parts if kind in (3, 4) else b"") + content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts


def expected(run: Run) -> History:
    """What a run has recorded."""
    found: History = {}
    for column in run.columns:
        steps, values = run.series(column)
        if column != "step" and len(steps):
            found[column] = {int(step): [float(value)] for step, value in zip(steps, values, strict=True)}
    for record in run.evaluations():
        for name in ("loss", "accuracy"):
            found.setdefault(f"test/{name}", {})[record["step"]] = [record[name]]
    return found


def assert_same(found: History, wanted: History) -> None:
    assert set(wanted) - set(found) == set()
    for tag, values in wanted.items():
        assert found[tag].keys() == values.keys(), tag
        for step, there in values.items():
            np.testing.assert_array_equal(found[tag][step], there, err_msg=f"{tag} at {step}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_tracker_has_every_row_and_evaluation_as_it_was_recorded_once(
    kind: Kind, run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    assert main(["track", str(run), "--to", kind, "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"tracker": kind, "runs": [{"run": str(run), "sent": 22}]}
    assert main(["track", str(run.parent), "--to", kind, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["runs"] == [{"run": str(run), "sent": 0}]
    assert_same(kept(kind, tmp_path), expected(read_run(run)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_sent_while_it_goes_and_stopped_and_resumed_is_one_run_there(kind: Kind, tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "stopped"
    (directory.parent).mkdir()
    sent = []
    for resumes, last in ((False, 13), (True, 20)):
        config = parse_config({**CONFIG, "checkpoint": {"every": 5}})
        for event in (events := Experiment(config).run(directory, resumes=resumes)):
            if isinstance(event, Update) and event.step == last - 1:
                with Closing(directory, kind) as sender:
                    sent.append(sender.send()[1])
            if isinstance(event, Update) and event.step == last and not resumes:
                events.close()
                break
    with Closing(directory, kind) as sender:
        ended, number = sender.send()
    assert ended.status == "complete"
    assert [*map(bool, sent), bool(number)] == [True, True, True]
    assert_same(kept(kind, tmp_path), expected(ended))


class Closing:
    """A sender that is closed at the end."""

    def __init__(self, directory: Path, kind: Kind) -> None:
        self.sender = Sender(directory, kind)

    def __enter__(self) -> Sender:
        return self.sender

    def __exit__(self, *exception: object) -> None:
        self.sender.close()


def test_followed_to_its_end(tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "followed"
    command = [sys.executable, "-m", "lrlab", "train", "--width", "2", "--steps", "150", "--batch-size", "16"]
    command += ["--schedule", "constant", "--set", "telemetry.flush_every=5", "--set", "telemetry.every=10"]
    command += ["--run", str(directory)]
    training = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (directory / "run.json").exists() and training.poll() is None:
        pass
    looks = list(send_runs(directory.parent, "trackio", project=None, until_over=True, seconds=0.2))
    _, said = training.communicate()
    assert training.returncode == 0, said
    assert looks[-1][0].status == "complete"
    assert sum(number for _, number in looks) == 150 + len(read_run(directory).evaluations())
    assert_same(kept("trackio", tmp_path), expected(read_run(directory)))


def test_a_run_that_was_killed_is_not_followed_for_ever(tmp_path: Path) -> None:
    directory, copy = tmp_path / "runs" / "killed", tmp_path / "copies" / "killed"
    with RunWriter(directory, parse_config({"steps": 9})) as writer:
        writer.write_rows({"step": np.arange(1, 4), "train/loss": np.ones(3)})
        writer.wait()
        shutil.copytree(directory, copy)  # as a kill leaves it
        writer.finish("complete", {"steps": 3})
    looks = list(send_runs(copy, "trackio", project=None, until_over=True, seconds=0.1))
    assert [(run.status, number) for run, number in looks] == [("running", 3)]


def test_of_a_long_run_a_tracker_gets_the_points_that_tensorboard_gets(tmp_path: Path) -> None:
    num_steps = 2 * MAX_POINTS + 500  # three updates a stretch
    directory = tmp_path / "runs" / "long"
    steps = np.arange(1, num_steps + 1)
    rows = {"step": steps, "train/loss": np.sin(steps), "grad_l2/stem": np.ma.masked_array(steps / 2, steps % 25 != 0)}
    halves = [{name: values[part] for name, values in rows.items()} for part in (slice(0, 10_003), slice(10_003, None))]
    with (
        RunWriter(directory, parse_config({"steps": num_steps}), num_steps=num_steps) as writer,
        Closing(directory, "trackio") as sender,
    ):
        writer.describe(engine={"num_steps": num_steps})
        for half in halves:
            writer.write_rows(half)
            writer.wait()
            sender.send()
        writer.finish("complete", {"steps": num_steps})
        sender.send()
    (events,) = read_recordings(directory)
    found = kept("trackio", tmp_path)
    for tag, (at, values) in events.series.items():
        assert list(found[tag]) == at.tolist()
        assert [found[tag][int(step)][0] for step in at] == pytest.approx(values.tolist(), rel=1e-6)  # events: float32
    assert len(found["train/loss"]) == math.ceil(num_steps / 3)


def test_numbers_that_are_not_finite_arrive(tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "strange"
    with RunWriter(directory, parse_config({"steps": 3})) as writer:
        writer.write_rows({"step": np.arange(1, 4), "train/loss": np.array([np.nan, np.inf, -np.inf])})
        writer.finish("diverged", {"steps": 3, "test_accuracy": None})
    for kind in KINDS:
        assert main(["track", str(directory), "--to", kind]) == 0
    for kind in ("trackio", "wandb"):
        np.testing.assert_array_equal(
            [values for (values,) in kept(kind, tmp_path)["train/loss"].values()], [np.nan, np.inf, -np.inf]
        )
    found = [value for (value,) in kept("mlflow", tmp_path)["train/loss"].values()]
    np.testing.assert_array_equal(found, [np.nan, sys.float_info.max, -sys.float_info.max])  # as MLflow keeps them


def test_a_run_that_began_anew_in_its_directory_is_another_run_there(run: Path) -> None:
    assert main(["track", str(run), "--to", "trackio"]) == 0
    note = run / TRACKED.format("trackio")
    first = json.loads(note.read_text())
    note.unlink()
    assert main(["track", str(run), "--to", "trackio"]) == 0
    second = json.loads(note.read_text())
    assert first["key"] != second["key"]
    assert {name: first[name] for name in ("step", "evaluated")} == {"step": 20, "evaluated": 20}


def test_another_run_of_its_name_is_not_added_to(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    test_a_run_that_began_anew_in_its_directory_is_another_run_there(run)
    note = run / TRACKED.format("trackio")
    note.write_text(json.dumps(json.loads(note.read_text()) | {"key": "another", "step": 10}))
    assert main(["track", str(run), "--to", "trackio"]) == 2
    assert "trackio has another run 'first' in project 'lrlab' now, and would add to it" in capfd.readouterr().err


def test_a_project_is_for_good(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["track", str(run), "--to", "trackio", "--project", "one"]) == 0
    note = run / TRACKED.format("trackio")
    note.write_text(json.dumps(json.loads(note.read_text()) | {"step": 10}))
    assert main(["track", str(run), "--to", "trackio", "--project", "two"]) == 2
    assert "it is in project 'one' of trackio already, so it cannot go to 'two'" in capfd.readouterr().err
    assert main(["track", str(run), "--to", "trackio"]) == 0


def test_two_trackers_at_once_keep_apart_how_far_they_got(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import wandb

    begin = wandb.init

    def slow(**options: Any) -> Any:
        assert main(["track", str(run), "--to", "trackio"]) == 0  # meanwhile, in another terminal
        return begin(**options)

    monkeypatch.setattr(wandb, "init", slow)
    assert main(["track", str(run), "--to", "wandb"]) == 0
    assert [json.loads((run / TRACKED.format(kind)).read_text())["step"] for kind in ("wandb", "trackio")] == [20, 20]
    capsys.readouterr()
    for kind in ("wandb", "trackio"):
        assert main(["track", str(run), "--to", kind]) == 0
        assert "nothing new" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["trackio", "mlflow"])
def test_a_run_that_was_sent_and_went_further_has_its_new_result(kind: Kind, run: Path, tmp_path: Path) -> None:
    assert main(["track", str(run), "--to", kind]) == 0
    assert kept(kind, tmp_path)["result/steps"] == {20: [20.0]}
    assert main(["resume", str(run), "--steps", "30"]) == 0
    assert main(["track", str(run), "--to", kind]) == 0
    found, result = kept(kind, tmp_path), read_run(run).result
    assert found["result/steps"] == {20: [20.0], 30: [30.0]}
    assert found["result/test_accuracy"][30] == [result["test_accuracy"]]


def test_mlflow_is_told_how_a_run_ended(run: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    assert main(["track", str(run), "--to", "mlflow"]) == 0
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    [there] = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert (there.info.status, there.data.tags["lrlab.status"]) == ("FINISHED", "complete")


def test_where_sending_breaks_off_the_same_run_gets_the_rest(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrlab.integrations.mlflow import MlflowRun

    with monkeypatch.context() as broken:
        broken.setattr(MlflowRun, "finish", lambda *_: (_ for _ in ()).throw(OSError("no network")))
        assert main(["track", str(run), "--to", "mlflow"]) == 2
    assert main(["track", str(run), "--to", "mlflow"]) == 0
    found = kept("mlflow", tmp_path)  # of one run
    assert {len(values) for values in found["train/loss"].values()} == {2}
    assert found["result/steps"] == {20: [20.0]}


def test_a_study_is_followed_over_its_pauses_with_the_runs_that_tune_it(tmp_path: Path) -> None:
    study = tmp_path / "runs" / "tuned"
    first, second = study / "tuning" / "cosine" / "lr0.1" / "seed1000", study / "cosine" / "seed0"
    for directory, seed in ((first, 1000), (second, 0)):
        with RunWriter(directory, parse_config({"steps": 2, "seed": seed})) as writer:
            writer.write_rows({"step": np.arange(1, 3), "train/loss": np.ones(2)})
            writer.finish("complete", {"steps": 2})
    (study / "study.toml").write_text("")
    second.rename(tmp_path / "later")
    names = []
    for run, number in send_runs(study, "trackio", project=None, until_over=True, seconds=0.05):
        if number:
            names.append(run.directory)
        if len(names) == 1 and (tmp_path / "later").exists():
            (tmp_path / "later").rename(second)  # between two looks
    assert names == [first, second]
    with closing(sqlite3.connect(tmp_path / "trackio" / "tuned.db")) as database:
        there = {name for (name,) in database.execute("SELECT DISTINCT run_name FROM metrics")}
    assert there == {"tuning-cosine-lr0.1-seed1000", "cosine-seed0"}


def test_update_0_of_a_run_made_elsewhere_is_sent(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,loss,test_accuracy\n0,2.0,0.1\n10,1.0,0.5\n")
    out = tmp_path / "runs" / "brought"
    assert main(["import", str(tmp_path / "log.csv"), "--out", str(out), "--seed", "0"]) == 0
    assert main(["track", str(out), "--to", "trackio"]) == 0
    assert kept("trackio", tmp_path)["train/loss"] == {0: [2.0], 10: [1.0]}


@pytest.mark.parametrize("kind", ["trackio", "wandb"])
def test_what_a_tracker_holds_back_is_noted_once_it_is_closed(run: Path, tmp_path: Path, kind: Kind) -> None:
    killed = f"""
        import os, pathlib, trackio.sqlite_storage, trackio.utils
        trackio.sqlite_storage.TRACKIO_DIR = trackio.utils.TRACKIO_DIR = pathlib.Path({str(tmp_path / "trackio")!r})
        from lrlab.integrations.tracking import Sender
        Sender(pathlib.Path({str(run)!r}), {kind!r}).send()
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(killed)], check=False, capture_output=True, timeout=120)
    note = run / TRACKED.format(kind)
    assert json.loads(note.read_text()).keys() == {"key", "project"}
    shutil.rmtree(tmp_path / "wandb-files" / "wandb", ignore_errors=True)  # its end would be waited for
    if kind == "trackio":  # it had not even written that there is such a run
        with pytest.raises(TrackerError, match=r"no run 'first' in project 'lrlab'.* delete sent-to-trackio\.json"):
            Sender(run, kind).send()
        note.unlink()
    with Closing(run, kind) as sender:
        assert sender.send()[1] > 0 and sender.send()[1] == 0
        with pytest.raises(LockedError, match=f"another process is sending it to {kind}"):
            Sender(run, kind).send()  # it knows nothing of what is on its way
    assert json.loads(note.read_text())["step"] == 20
    found, wanted = kept(kind, tmp_path), expected(read_run(run))
    assert {tag: found[tag].keys() for tag in wanted} == {tag: steps.keys() for tag, steps in wanted.items()}


def test_two_processes_do_not_send_one_run(run: Path) -> None:
    with (
        lock_file(run / ".trackio.lock", lambda: ""),
        pytest.raises(LockedError, match="another process is sending it to trackio"),
    ):
        Sender(run, "trackio").send()


def test_a_tracker_that_is_not_installed_is_said_to_be_missing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lrlab.integrations.wandb", "wandb"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TrackerError, match=r"wandb cannot be imported .*: pip install 'lrlab\[trackers\]'"):
        Sender(run, "wandb").send()


def test_what_a_tracker_complains_of_is_said_in_a_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{run / 'run.json' / 'mlflow.db'}")
    with pytest.raises(TrackerError, match="mlflow refused the rows: .*Repeat the command to continue; rows just sent"):
        Sender(run, "mlflow").send()


def test_names_that_mlflow_does_not_take_are_written_otherwise(tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "named"
    with RunWriter(directory, parse_config({"steps": 1})) as writer:
        writer.write_rows({"step": np.array([1]), "grad_l2/layer[34]": np.array([0.5])})
        writer.finish("complete", {"steps": 1})
    assert main(["track", str(directory), "--to", "mlflow"]) == 0
    found: Any = kept("mlflow", tmp_path)
    assert found["grad_l2/layer_34_"] == {1: [0.5]}
