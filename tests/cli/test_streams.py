"""A standard stream that is closed, full, or cannot show a name, and a caller's thread: none of it costs the work."""

import contextlib
import io
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from lrlab.cli import main
from lrlab.cli.signals import stop_requests
from lrlab.cli.streams import unfailing_streams
from lrlab.runs import read_run, sound_checkpoints
from small import UNWATCHED

TRAIN = [
    "train", "--data", "digits", "--width", "2", "--batch-size", "16", "--run", "run", *UNWATCHED,
]  # fmt: skip
WARNED = [*TRAIN, "--schedule", "article", "--steps", "3"]
"""A run of three updates, of which it is warned that its rule decides after more."""

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


def shell(folder: Path, redirected: str, arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, with its streams as a shell redirects them."""
    command = ["bash", "-c", f'exec "$@" {redirected}', "bash", sys.executable, "-m", "lrlab", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("redirected", ["0<&- >&- 2>&-", pytest.param("2>/dev/full", marks=needs_full)])
def test_a_warning_that_cannot_be_said_does_not_cost_the_run(tmp_path: Path, redirected: str) -> None:
    document = ["--json"] if redirected == "2>/dev/full" else []  # then all but it is said there
    assert shell(tmp_path, redirected, [*WARNED, *document]).returncode == 0
    assert read_run(tmp_path / "run").status == "complete"


def test_a_signal_saves_a_run_whose_stderr_is_closed(tmp_path: Path) -> None:
    train = [sys.executable, "-m", "lrlab", *TRAIN, "--schedule", "constant", "--steps", "1000000"]
    command = ["bash", "-c", 'exec "$@" 2>&-', "bash", *train, "--set", "telemetry.flush_every=10"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("run/metrics/part-*.parquet")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    finally:
        process.kill()
    run = read_run(tmp_path / "run")
    assert run.status == "preempted"
    assert sound_checkpoints(tmp_path / "run")[0].step == run.result["steps"] > 0


def test_a_run_whose_terminal_is_closed_is_saved_and_has_its_report(tmp_path: Path) -> None:
    train = [sys.executable, "-m", "lrlab", *TRAIN, "--schedule", "constant", "--steps", "1000000"]
    within, terminal = pty.openpty()
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
    process = subprocess.Popen(
        [*train, "--set", "telemetry.flush_every=10"], cwd=tmp_path, stdout=terminal, stderr=terminal
    )
    signal.signal(signal.SIGHUP, before)
    try:
        os.close(terminal)
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("run/metrics/part-*.parquet")) and time.monotonic() < deadline:
            if select.select([within], [], [], 0.05)[0]:
                os.read(within, 1 << 16)
        os.close(within)
        process.send_signal(signal.SIGHUP)  # as the system does where the terminal is the session's
        assert process.wait(timeout=60) == 129
    finally:
        process.kill()
    assert read_run(tmp_path / "run").status == "preempted"
    assert (tmp_path / "run" / "report.html").exists()


def test_a_document_that_has_nowhere_to_go_is_said_before_the_work(tmp_path: Path) -> None:
    ended = shell(tmp_path, ">&-", [*WARNED, "--json"])
    assert ended.returncode == 2
    assert ended.stderr == (
        "lrlab: --json: stdout is closed, so the document cannot be written. Leave --json out, or redirect it: >FILE.\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments", [["data", "list"], ["completion", "bash"], ["--help"]])
def test_a_verb_whose_stdout_is_closed_does_its_work(tmp_path: Path, arguments: list[str]) -> None:
    ended = shell(tmp_path, ">&-", arguments)
    assert ended.returncode == 0 and "Traceback" not in ended.stderr


def test_no_file_takes_the_number_of_a_stream_that_is_closed(tmp_path: Path) -> None:
    code = """
        import os, sys
        from lrlab.cli.streams import unfailing_streams
        with unfailing_streams(), open("checkpoint", "wb") as file:
            os.write(2, b"what a library in C has to say")
            file.write(b"weights")
    """
    command = ["bash", "-c", 'exec "$@" 0<&- >&- 2>&-', "bash", sys.executable, "-c", textwrap.dedent(code)]
    assert subprocess.run(command, cwd=tmp_path, timeout=60, check=False).returncode == 0
    assert (tmp_path / "checkpoint").read_bytes() == b"weights"


def test_a_letter_that_the_locale_does_not_have_does_not_cost_the_run(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("loss\n1\n")
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = shell(tmp_path, "", ["import", "log.csv", "--seed", "0", "--out", "é"], **ascii_alone)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\\xe9" in ended.stdout and (tmp_path / "é" / "run.json").exists()


@pytest.mark.usefixtures("blank_pictures")
def test_calls_that_overlap_leave_the_streams_as_they_were() -> None:
    out, err = sys.stdout, sys.stderr
    first, second = unfailing_streams(), unfailing_streams()
    first.__enter__()
    second.__enter__()
    sys.stderr.writelines(["a", "b"])
    first.__exit__(None, None, None)  # before the second, which began later
    second.__exit__(None, None, None)
    assert sys.stdout is out and sys.stderr is err


def test_it_can_be_called_from_any_thread_which_leaves_the_signals_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []

    def call() -> None:
        codes.append(main([*TRAIN, "--schedule", "constant", "--steps", "3"]))
        with stop_requests() as stop:
            assert stop.number is None

    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert codes == [0]
    assert signal.getsignal(signal.SIGTERM) is before
    assert read_run(tmp_path / "run").status == "complete"
