"""A study on a Ray cluster: real ones, in processes of their own, since Ray leaves threads and sockets behind."""

import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from kills import compare
from lrlab.cli import main
from lrlab.config import parse_config, read_study
from lrlab.runs import find_runs
from lrlab.studies import Ended, Member, run_study
from lrlab.studies.messages import Begun, Job
from lrlab.studies.task import Place, do

pytest.importorskip("ray", reason="pip install 'lrlab[ray]'")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TOKEN = "0123456789abcdef" * 4
PATIENCE = 400

STUDY: dict[str, Any] = {
    "name": "tiny",
    "seeds": [0],
    "base": {
        "steps": 400,
        "batch_size": 16,
        "model": {"width": 2},
        "evaluate": {"every": 200},
        "checkpoint": {"every": 20},
        "telemetry": {"every": 20},  # fewer rows to write and to compare
        "engine": {"threads": 1},
    },
    "arms": {"constant": {"schedule": {"name": "constant"}}, "cosine": {"schedule": {"name": "cosine"}}},
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(STUDY))
    return tmp_path / "tiny.toml"


def test_a_node_is_taken_away_and_the_runs_are_those_of_the_local_executor(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "cluster.py"), "--seeds", "1", "--steps", "400"]
    seen = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=seen)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["taken"] == len(found["died"]) == found["resumed"] == 1
    assert (found["outcomes"], found["compared"], found["differences"]) == ({"complete": 2}, 2, {})
    assert found["gpus_left"] == [0.5], "a run was given half of one"


def test_begun_here_it_outlives_its_workers_and_is_saved_when_it_is_stopped(file: Path, tmp_path: Path) -> None:
    runs, said = tmp_path / "runs", tmp_path / "said"
    command = [sys.executable, "-m", "lrlab", "study", str(file), "--ray", "local"]
    with said.open("w") as log:
        study = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RAY_AUTH_TOKEN": TOKEN, "RAY_worker_niceness": "0"},
        )

    def wait_until(holds: Callable[[], Any]) -> None:
        until = time.monotonic() + PATIENCE
        while not holds():
            assert study.poll() is None, said.read_text()
            assert time.monotonic() < until, said.read_text()
            time.sleep(0.05)

    try:
        wait_until(lambda: any(workers()))
        addresses = list(listening())
        assert len(addresses) > 3, "Ray's processes are known by their token"
        assert set(addresses) == {"127.0.0.1"}

        wait_until(lambda: len(list(runs.glob("tiny/*/seed*/checkpoints/latest"))) == 2)
        os.kill(next(workers()), signal.SIGKILL)  # at once: a run takes no longer than a look at all of /proc
        wait_until(
            lambda: "its process ended by WorkerCrashedError; another process continues the run" in said.read_text()
        )
        wait_until(lambda: any("resumed" in info for info in infos(runs)))
        study.send_signal(signal.SIGTERM)
        assert study.wait(PATIENCE) == 143, said.read_text()
    finally:
        study.kill()
        study.wait()

    statuses = [info["status"] for info in infos(runs)]
    assert "preempted" in statuses, said.read_text()
    assert not {"running", "failed"} & set(statuses), said.read_text()
    assert not list(runs.glob("tiny/.stop-*"))

    for _ in run_study(read_study(file), file, root=runs):
        pass
    for _ in run_study(read_study(file), file, root=tmp_path / "undisturbed"):
        pass
    assert len(find_runs(runs / "tiny")) == 2
    for run in find_runs(runs / "tiny"):
        assert compare(tmp_path / "undisturbed" / run.directory.relative_to(runs), run.directory) == []


def test_a_task_says_that_it_has_begun_before_it_does_anything(tmp_path: Path) -> None:
    member = Member("a", 0, parse_config({}), tmp_path / "run")
    place = Place(str(tmp_path), str(tmp_path / ".stop"), [], "another version", num_threads=1, has_gpu=False)
    begun, ended = do(Job(member, only_checks=False), place)
    assert begun == Begun()
    assert isinstance(ended, Ended) and "the study another version" in ended.message


def infos(runs: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in runs.glob("tiny/*/seed*/run.json")]


def processes() -> Iterator[Path]:
    """Those that have the token, ours apart."""
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and TOKEN.encode() in (folder / "environ").read_bytes():
                yield folder
        except OSError:  # gone, or somebody else's
            continue


def workers() -> Iterator[int]:
    """Processes of Ray's in which a run is made."""
    for folder in processes():
        if b"ray::do" in (folder / "cmdline").read_bytes():
            yield int(folder.name)


def listening() -> Iterator[str]:
    """Addresses at which they wait for connections."""
    sockets = set()
    for folder in processes():
        for link in (folder / "fd").iterdir():
            try:
                sockets.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))  # noqa: PTH115
            except OSError:
                continue
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in sockets:
                number = bytes.fromhex(words[1].split(":")[0][-8:])[::-1]
                yield ".".join(map(str, number))


def test_what_is_wrong_is_said_before_any_run(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        assert main(["study", str(file), *arguments]) == 2
        return capfd.readouterr().err

    assert said("--ray", "local", "--workers", "2").startswith("lrlab: Give --workers or --ray, not both")
    assert "add --ray local or --ray ADDRESS" in said("--gpus", "0.5")
    for gpus in ("1.5", "-1", "nan"):
        assert f"a fraction below 1, or a whole number, got {gpus}" in said("--ray", "local", "--gpus", gpus)
    assert "Start the study on a node of the cluster" in said("--ray", "ray://somewhere:10001")
    assert "--ray 127.0.0.1:1: no connection" in said("--ray", "127.0.0.1:1")
    assert "--ray nowhere: no connection" in said("--ray", "nowhere")
    assert not Path("runs").exists()


def test_warnings_of_tasks_are_said_and_an_arm_that_cannot_be_built_is_refused(
    file: Path,
) -> None:
    others = {f"other{number}": {"schedule": {"name": "constant"}} for number in range(8)}  # still being checked
    arms = {"warns": {"schedule": {"name": "article"}}, "wrong": {"batch_size": 5000}, **others}
    file.write_text(tomli_w.dumps(STUDY | {"arms": arms}))
    command = [sys.executable, "-m", "lrlab", "study", str(file), "--ray", "local"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, "lrlab: arm 'wrong': batch_size" in ended.stderr) == (2, True), ended.stderr
    assert "warning: warns seed 0: schedule 'article' decides after 1000 updates at the earliest" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_run_that_no_node_has_room_for_is_refused(file: Path) -> None:
    command = [sys.executable, "-m", "lrlab", "study", str(file), "--ray", "local", "--cpus", "4096"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 2
    assert "no node has 4096 CPUs and 0 GPUs for a run" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_ray_or_with_an_old_one_the_line_to_install_it_is_said(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["study", str(file), "--ray", "local"]) == 2
    assert "pip install 'lrlab[ray]'" in capsys.readouterr().err

    old = types.ModuleType("ray")
    old.__version__ = "2.51.2"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", old)
    assert main(["study", str(file), "--ray", "local"]) == 2
    assert "needs Ray 2.52 or newer" in capsys.readouterr().err
