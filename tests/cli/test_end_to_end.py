"""The program as it is typed, on real digits and on real CIFAR-10, where it matters in a process of its own."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lrlab.cli import main
from lrlab.cli.display import Display
from lrlab.cli.signals import stop_requests
from lrlab.config import parse_config
from lrlab.experiments import Experiment
from lrlab.runs import find_runs, read_run
from small import UNWATCHED

TINY = ["--width", "2", "--batch-size", "8", "--set", "schedule.check_every=10", "--set", "telemetry.every=5"]
CIFAR10 = Path(__file__).parents[3] / "shared" / "cifar10"


@pytest.fixture(autouse=True)
def narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


pytestmark = pytest.mark.usefixtures("blank_pictures")  # of `main`; those of processes are drawn


class Ended(NamedTuple):
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


def lrlab(folder: Path, *arguments: str) -> Ended:
    """Run a command here: a process of its own takes seconds to begin."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return Ended(code, out.getvalue(), err.getvalue())


def lrlab_process(folder: Path, *arguments: str) -> Ended:
    """Run a command in a process of its own."""
    command = [sys.executable, "-W", "error", "-m", "lrlab", *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def test_train_makes_a_run_with_figures_and_a_page(tmp_path: Path) -> None:
    ended = lrlab_process(tmp_path, "train", *TINY, "--steps", "30", "--set", "evaluate.every=20")
    assert (ended.returncode, ended.stderr) == (0, "")
    folder = tmp_path / "runs" / "digits-resnet18-article-seed0"
    assert read_run(folder).status == "complete"
    assert "step 20 (epoch 1): test loss" in ended.stdout
    assert "step 30 (epoch 1): test loss" in ended.stdout
    assert str(Path("runs") / "digits-resnet18-article-seed0" / "report.html") in ended.stdout
    assert (folder / "report.html").stat().st_size > 10_000
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    groups = ("stem", "layer1", "layer2", "layer3", "layer4", "linear")
    assert {"lr", "loss", *(f"grad_{group}" for group in groups)} <= figures
    assert len(list((folder / "confusion").glob("*.png"))) == 2


def test_an_evaluation_with_mirror_images_says_both(tmp_path: Path) -> None:
    ended = lrlab(tmp_path, "train", *TINY, "--steps", "10", "--set", "evaluate.mirror=true", "--run", "run")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.search(r"step 10 .*: test loss .*, accuracy [\d.]+%, with mirror images [\d.]+%\n", ended.stdout)
    assert re.search(r"complete: test accuracy [\d.]+%, with mirror images [\d.]+%, 10 updates", ended.stdout)


def test_train_again_makes_a_run_beside_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        assert lrlab(tmp_path, "train", *TINY, "--steps", "10").returncode == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "digits-resnet18-article-seed0",
        "digits-resnet18-article-seed0-2",
    ]


def test_train_json_prints_one_document_and_all_else_on_stderr(tmp_path: Path) -> None:
    ended = lrlab(tmp_path, "train", *TINY, "--steps", "10", "--run", "here", "--json")
    document = json.loads(ended.stdout)
    assert document == {"run": "here", "status": "complete", "result": dict(read_run(tmp_path / "here").result)}
    assert set(document["result"]) == {
        "steps",
        "epochs",
        "test_accuracy",
        "test_loss",
        "train_seconds",
        "images_per_second",
    }
    assert "step 10" in ended.stderr


def test_a_runs_own_config_repeats_it(tmp_path: Path) -> None:
    lrlab(tmp_path, "train", *TINY, "--steps", "12", "--seed", "3", "--run", "one")
    assert lrlab(tmp_path, "train", "--config", "one/config.toml", "--run", "two").returncode == 0
    losses = [list(read_run(tmp_path / name).series("train/loss")[1]) for name in ("one", "two")]
    assert losses[0] == losses[1]


def test_divergence_is_exit_code_4(tmp_path: Path) -> None:
    wild = ["--schedule", "constant", "--set", "optimizer.name=sgd", "--lr", "1e30"]
    ended = lrlab(tmp_path, "train", *TINY[:4], *wild, "--steps", "30", "--run", "run")
    assert ended.returncode == 4
    assert "diverged: the loss of update" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert read_run(tmp_path / "run").status == "diverged"
    assert (tmp_path / "run" / "report.html").exists()


def test_a_diverged_run_has_its_json_too(tmp_path: Path) -> None:
    wild = ["--schedule", "constant", "--set", "optimizer.name=sgd", "--lr", "1e30"]
    ended = lrlab(tmp_path, "train", *TINY[:4], *wild, "--steps", "30", "--run", "run", "--json")
    assert (ended.returncode, json.loads(ended.stdout)["status"]) == (4, "diverged")


def test_some_failed_is_exit_code_7(tmp_path: Path) -> None:
    (tmp_path / "pair.toml").write_text(STUDY.replace("seeds = [0, 1]", "seeds = [0]"))
    (tmp_path / "runs" / "pair" / "multiplier-0.5" / "seed0").mkdir(parents=True)
    (tmp_path / "runs" / "pair" / "multiplier-0.5" / "seed0" / "thesis.tex").touch()
    ended = lrlab(tmp_path, "study", "pair.toml")
    assert ended.returncode == 7
    assert "[1/2] multiplier-0.5 seed 0: failed: " in ended.stdout
    assert "[2/2] multiplier-0.2 seed 0: complete" in ended.stdout
    assert (tmp_path / "runs" / "pair" / "multiplier-0.5" / "seed0" / "thesis.tex").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_a_run_with_its_rows_kept(tmp_path: Path, number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "lrlab", "train", *TINY, *UNWATCHED, "--steps", "1000000", "--run", "run",
               "--set", "telemetry.flush_every=10"]  # fmt: skip
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may have been started by nohup
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGHUP, before)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("run/metrics/part-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert err.splitlines() == [
        "lrlab: finishing the current update, then saving and stopping; repeat to stop at once",
        "lrlab: stopped; what was recorded so far is kept.",
    ]
    run = read_run(tmp_path / "run")
    assert run.status == "preempted"
    assert len(run.series("train/loss")[0]) == run.result["steps"] > 0
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")] == [
        f"step-{run.result['steps']:06d}"
    ]


def test_a_second_signal_stops_at_once() -> None:
    code = """
        import os, signal
        from lrlab.cli.signals import stop_requests
        with stop_requests() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            print(stop.number, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
            print("still here", flush=True)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (143, "2\n")


def test_the_end_of_a_terminal_is_ignored_where_nohup_says_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.number is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_after_the_last_update_comes_too_late(tmp_path: Path) -> None:
    config = {"model": {"width": 2}, "steps": 3, "batch_size": 16, "schedule": {"name": "constant"}}
    experiment = Experiment(parse_config(config))
    signals = iter([signal.SIGTERM])

    def interrupt(module: Any, *_: object) -> None:
        if not module.training:  # in the evaluation
            for number in signals:
                signal.raise_signal(number)

    experiment.model.register_forward_hook(interrupt)
    Display(json=False).follow(experiment, tmp_path / "run", resumes=False)
    assert next(signals, None) is None
    assert read_run(tmp_path / "run").status == "complete"


def test_a_run_that_was_stopped_goes_on_and_can_be_verified(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lrlab", "train", *TINY, *UNWATCHED, "--steps", "300", "--run", "run",
               "--set", "telemetry.flush_every=10", "--set", "checkpoint.every=250"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("run/metrics/part-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert out.splitlines()[-1] == "to continue: lrlab resume run"
    ended = lrlab(tmp_path, "resume", "run", "--json")
    assert (ended.returncode, json.loads(ended.stdout)["status"]) == (0, "complete")
    assert list(read_run(tmp_path / "run").series("train/loss")[0]) == list(range(1, 301))
    verified = lrlab(tmp_path, "verify", "run")
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.startswith("updates 251 to 300 repeated: weights, state, rows")
    again = lrlab(tmp_path, "resume", "run")
    assert (again.returncode, again.stderr) == (
        2, "lrlab: run: the run is complete. To continue it, give more --epochs or --steps.\n"
    )  # fmt: skip


STUDY = """
name = "pair"
seeds = [0, 1]
[base]
steps = 20
batch_size = 4
model.width = 2
schedule.check_every = 10
telemetry.every = 100
[arms]
"multiplier-0.5" = { schedule.multiplier = 0.5 }
"multiplier-0.2" = { schedule.multiplier = 0.2 }
"""


def test_a_study_lays_its_arms_over_each_other_and_is_safe_to_repeat(tmp_path: Path) -> None:
    (tmp_path / "pair.toml").write_text(STUDY)
    ended = lrlab_process(tmp_path, "study", "pair.toml")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.search(r"\[4/4\] multiplier-0.2 seed 1: complete, test accuracy \d", ended.stdout)
    assert re.search(r"\narm +n  test accuracy, %.*\n─+\nmultiplier-0.5 +2 .*\nmultiplier-0.2 +2 ", ended.stdout)
    assert re.search(r"between multiplier-0.2 and multiplier-0.5|than multiplier-0.5|have the same test", ended.stdout)
    assert "\nfull comparison: lrlab compare runs/pair\n" in ended.stdout
    assert [run.status for run in find_runs(tmp_path / "runs" / "pair")] == ["complete"] * 4
    assert (tmp_path / "runs" / "pair" / "figures" / "lr.png").exists()
    assert str(Path("runs") / "pair" / "report.html") in ended.stdout

    again = lrlab(tmp_path, "study", "pair.toml", "--json")
    assert json.loads(again.stdout) == {"study": "runs/pair", "outcomes": {"complete": 4}}
    assert again.stderr.count("(already there)") == 4


def test_a_study_is_tuned_and_run_by_workers(tmp_path: Path) -> None:
    tune = "[tune]\nrates = [1e-3, 1e-2]\nseeds = [1000]\n"
    (tmp_path / "pair.toml").write_text(STUDY.replace("seeds = [0, 1]", "seeds = [0]") + tune)
    ended = lrlab_process(tmp_path, "study", "pair.toml", "--workers", "2", "--json")
    assert ended.returncode == 0
    document = json.loads(ended.stdout)
    assert (document["study"], document["outcomes"]) == ("runs/pair", {"complete": 2})
    found = {run.arm: run.config["optimizer"]["lr"] for run in find_runs(tmp_path / "runs" / "pair")}
    assert document["rates"] == found
    assert set(found.values()) <= {1e-3, 1e-2}
    assert ended.stderr.startswith(
        "study pair: 2 arms x 1 seeds = 2 runs, after 2 arms x 2 rates x 1 seeds = 4 runs that find the arms' rates "
        "on 10% of the training images\n"
    )
    assert re.search(r"\[tuning 4/4\] multiplier-0.\d at \S+ seed 1000: complete, validation accuracy", ended.stderr)
    assert "; 2 runs, 40 updates, " in ended.stderr
    assert ended.stderr.count("rate of the grid, and the best may lie beyond: ") == 2  # of two, each
    share = max(1, len(os.sched_getaffinity(0)) // 2)  # of the processors, for each of two workers
    threads = int(os.environ.get("OMP_NUM_THREADS", share))
    assert [run.info["engine"]["threads"] for run in find_runs(tmp_path / "runs" / "pair")] == [threads] * 2


def test_report_can_be_made_again_from_the_directory_alone(tmp_path: Path) -> None:
    lrlab(tmp_path, "train", *TINY, "--steps", "10", "--run", "run")
    (tmp_path / "run" / "report.html").unlink()
    ended = lrlab(tmp_path, "report", "run")
    assert (ended.returncode, ended.stdout) == (0, "run/report.html\n")
    assert (tmp_path / "run" / "report.html").exists()


def test_a_run_may_lie_in_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    assert lrlab(tmp_path, "train", *TINY, "--steps", "10", "--run", name).returncode == 0
    assert lrlab(tmp_path, "resume", name, "--steps", "20").returncode == 0
    ended = lrlab(tmp_path, "report", name)
    assert (ended.returncode, ended.stdout) == (0, "caf\N{REPLACEMENT CHARACTER}/report.html\n")
    images = lrlab(tmp_path, "train", "--data", f"folder:{name}")
    assert images.returncode == 2
    assert "caf\N{REPLACEMENT CHARACTER}: the path is not valid UTF-8, so config.toml cannot hold it" in images.stderr


def test_report_of_nothing_is_refused(tmp_path: Path) -> None:
    ended = lrlab(tmp_path, "report", "nothing")
    assert ended.returncode == 2
    assert ended.stderr == (
        "lrlab: nothing: there is no such folder. Name a directory that lrlab train or study made; lrlab runs lists "
        "them.\n"
    )


def test_a_run_is_replayed_refined_and_trained_again(tmp_path: Path) -> None:
    first = ["train", *TINY[:4], "--steps", "60", "--schedule", "constant", "--run", "first"]
    assert lrlab(tmp_path, *first).returncode == 0
    replayed = lrlab(tmp_path, "replay", "first", "--schedule", "plateau", "--set", "schedule.check_every=5")
    assert (replayed.returncode, replayed.stderr) == (0, "")
    assert "train/loss: 60 losses, updates 1 to 60; 12 looks" in replayed.stdout
    refined = lrlab(tmp_path, "refine", "first")
    assert "lrlab train --config first/refined.toml" in refined.stdout
    again = lrlab(tmp_path, "train", *TINY[:4], "--steps", "60", "--config", "first/refined.toml", "--run", "second")
    assert (again.returncode, again.stderr) == (0, "")
    rates = read_run(tmp_path / "second").series("lr/stem")[1]
    assert rates[-1] == 0.0 and max(rates) <= 1e-3


def test_a_replay_starts_from_the_rate_of_its_run_unless_told_another(tmp_path: Path) -> None:
    rule = ["--schedule", "article", "--set", "schedule.check_every=10", "--set", "schedule.multiplier=1"]
    assert lrlab(tmp_path, "train", *TINY[:4], "--steps", "60", "--lr", "0.05", *rule, "--run", "run").returncode == 0
    replayed = lrlab(tmp_path, "replay", "run", *rule, "--json")
    assert replayed.returncode == 0 and "; 6 looks, the rate starts at 0.05 and moves " in replayed.stderr
    document, made = json.loads(replayed.stdout), read_run(tmp_path / "run").decisions()
    assert (document["lr"], len(document["decisions"])) == (0.05, 6)
    for key in ("step", "threshold", "decision"):
        assert [decision[key] for decision in document["decisions"]] == [decision[key] for decision in made]
    for other in (["--lr", "0.01"], ["--set", "optimizer.lr=0.01"]):
        told = lrlab(tmp_path, "replay", "run", *rule, *other)
        assert told.returncode == 0 and "the rate starts at 0.01 and moves " in told.stdout


def test_a_rule_in_phases_with_rates_per_layer_leaves_its_trace(tmp_path: Path) -> None:
    ended = lrlab(
        tmp_path, "train", *TINY[:4], "--steps", "80", "--schedule", "slope", "--set", "schedule.window=20",
        "--set", "schedule.min_progress=0.9", "--set", "schedule.level=0.4", "--set", "phases.warmup_steps=10",
        "--set", "phases.cooldown_fraction=0.25", "--set", "layer_rates.stem=0.5", "--run", "run",
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    run = read_run(tmp_path / "run")
    stem, linear = (run.series(f"lr/{group}")[1] for group in ("stem", "linear"))
    assert list(stem) == [rate / 2 for rate in linear]
    assert list(linear[:11]) == pytest.approx([1e-3 * (step + 1) / 10 for step in range(10)] + [1e-3])
    assert linear[-1] == 0.0
    decays = [decision["step"] for decision in run.decisions() if decision["decision"] == "decay"]
    assert decays and all(10 < step <= 60 for step in decays)
    assert linear[decays[0]] == pytest.approx(1e-4)  # the rate of the update after it


def test_a_reader_that_leaves_early_ends_the_program_quietly(tmp_path: Path) -> None:
    command = f"{sys.executable} -m lrlab preview --schedule cosine --steps 20000 --json | head -c 10; echo"
    ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.stdout == '{"schedule\n'
    assert "Traceback" not in ended.stderr


def test_a_reader_of_the_help_that_leaves_is_no_bug(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lrlab", "train", "--help"]
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.skipif(not CIFAR10.exists(), reason="needs the CIFAR-10 sprites beside the repository, in ../shared")
def test_the_articles_run_on_real_cifar10(tmp_path: Path) -> None:
    subprocess.run([sys.executable, CIFAR10 / "unpack.py", tmp_path / "data"], check=True, capture_output=True)
    ended = lrlab(
        tmp_path, "train", "--data", "cifar10", "--data-dir", "data", "--width", "4", "--batch-size", "4",
        "--steps", "200", "--set", "schedule.check_every=50", "--set", "evaluate.every=100", "--run", "run",
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    run = read_run(tmp_path / "run")
    assert run.info["data"]["classes"][:3] == ["airplane", "automobile", "bird"]
    assert [sum(map(sum, record["confusion"])) for record in run.evaluations()] == [10_000, 10_000]
    assert run.result["test_accuracy"] > 0.12  # chance is 0.10, with a standard error of 0.003
    assert list(run.series("grad_out_l2/layer1")[0]) == list(range(25, 201, 25))
