"""A warm process that forks another for each job, and lets things go wrong in that one: the hooks live here.

    with Warm() as warm:
        ended = warm.do({"run": "runs/one", "config": {...}, "kill": {"number": 12, "how": "before"}})

Importing PyTorch takes a second; a fork of a process that has done so takes none, so hundreds of runs can be killed in
minutes. Started as a program this file is the warm process: it reads a job a line and answers with a line, in JSON.

A job names what is done, `run` (a directory, with `config`: the run is made in it, or goes on, and a warning is an
error) or `lrlab` (arguments of the command line, in the directory `folder`), and what goes wrong meanwhile. Pictures
are small ones, and no page is drawn: that takes longer than all else.

kill        {"number": n, "how": "before" | "after" | "torn", "within": text}: SIGKILL at the n-th call that changes the
            file system and that holds the text, as "fsync .../run.json" does; torn: some of the file is lost first, as
            if it were still being written
kill_after  seconds after which SIGKILL comes, wherever the job is
signals     [seconds, number]: a signal that comes so late
signal_at   {"within": text, "signal": number}: a signal before the first call that holds the text
max_file    bytes that a file may have, EFBIG beyond, as on a full disk; until a call holds the text of max_file_until
max_memory  bytes that the process may take, beyond what it has
uid         user that the job is done as
clock       seconds by which time.time() jumps, in turns, at each call
closed      ["stdout", "stderr"]: what nobody reads any longer
"""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import json
import os
import random
import resource
import select
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

CALLS = ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir", "truncate")
"""Calls of `os` at which a job may be killed: all by which lrlab changes what is on disk, but for writing itself."""

PATIENCE = 300.0
"""Seconds after which a job is taken to hang."""

Job = Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    code: int
    """Its exit code; -9 where it was killed."""
    out: str
    err: str
    seconds: float
    num_calls: int
    """Calls of CALLS that it made; 0 where it was killed."""
    killed_at: str
    """Call that it was killed at, and the path; empty where it was not killed at one."""


class Warm:
    """The warm process, from the side of whoever gives the jobs."""

    def __enter__(self) -> Self:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def do(self, job: Job) -> Ended:
        """Have a job done, and wait for its end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


def serve() -> None:
    """Do jobs, one after another, until there are no more."""
    import torch

    torch.set_num_threads(1)  # a pool of threads would not be there after a fork
    data = _warm_up()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_fork(json.loads(line), data)) + "\n")
        sys.stdout.flush()


def _warm_up() -> Any:
    from lrlab.cli.options import read_config
    from lrlab.data import load_digits_data
    from lrlab.experiments import Experiment

    data = load_digits_data()
    importlib.import_module("lrlab.cli.display")
    # what is imported late is there too, a third of a short run, and for a user who may not read it
    Experiment(read_config(None, {"model.width": 1, "schedule.name": "constant"}, []), data=data)
    return data


def _fork(job: Job, data: Any) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        reading, writing = os.pipe()
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            os.close(reading)
            os._exit(_child(job, data, out.fileno(), err.fileno(), writing))
        os.close(writing)
        code = _wait(child, job, started)
        seconds = time.monotonic() - started
        with open(reading) as notes:  # noqa: PTH123 - a pipe
            said = dict(line.rstrip("\n").split(" ", 1) for line in notes)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return {
        "code": code,
        "out": texts[0],
        "err": texts[1],
        "seconds": seconds,
        "num_calls": int(said.get("calls", 0)),
        "killed_at": said.get("killed", ""),
    }


def _wait(child: int, job: Job, started: float) -> int:
    """Wait for the end, with what is to come before it; return the exit code."""
    handle = os.pidfd_open(child)
    due = [(job["kill_after"], signal.SIGKILL)] if "kill_after" in job else []
    due += [(seconds, number) for seconds, number in job.get("signals", [])]
    try:
        for seconds, number in [*sorted(due), (PATIENCE, signal.SIGKILL)]:
            if select.select([handle], [], [], max(0.0, started + seconds - time.monotonic()))[0]:
                break
            os.kill(child, number)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(handle)


def _child(job: Job, data: Any, out: int, err: int, notes: int) -> int:
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
    os.environ["COLUMNS"] = "80"
    for name in job.get("closed", []):
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, {"stdout": 1, "stderr": 2}[name])
    calls = _Calls(job, notes)
    try:
        _let_go_wrong(job)
        code = _work(job, data)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # as the interpreter does, whose place this takes
        with contextlib.suppress(OSError):
            traceback.print_exc()
        code = 1
    os.write(notes, f"calls {calls.made}\n".encode())
    return code


def _let_go_wrong(job: Job) -> None:
    if "max_file" in job:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["max_file"], resource.RLIM_INFINITY))
    if "max_memory" in job:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + job["max_memory"]
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if "uid" in job:
        os.setgroups([])
        os.setresuid(job["uid"], job["uid"], job["uid"])
    if "clock" in job:
        jumps, true_time = itertools.cycle(job["clock"]), time.time
        time.time = lambda: true_time() + next(jumps)


def _work(job: Job, data: Any) -> int:
    import lrlab.cli.display
    import lrlab.experiments.session
    from lrlab.config import parse_config
    from lrlab.experiments import Experiment

    lrlab.experiments.session.confusion_png = _small_picture
    lrlab.cli.display.write_report = lambda directory: directory / "report.html"
    if "lrlab" in job:
        os.chdir(job["folder"])
        return lrlab.cli.main(job["lrlab"])
    warnings.simplefilter("error")  # a kill is no reason to warn of anything
    for _ in Experiment(parse_config(job["config"]), data=data).run(Path(job["run"]), resumes=True):
        pass
    return 0


def _small_picture(confusion: list[list[int]], *_: Any, **options: Any) -> bytes:
    """Draw the counts alone."""
    from PIL import Image

    png = io.BytesIO()
    Image.frombytes("L", (len(confusion),) * 2, bytes(min(n, 255) for row in confusion for n in row)).save(png, "PNG")
    return png.getvalue()


class _Calls:
    """Counts the calls that change the file system, and ends the process at the one that was chosen."""

    def __init__(self, job: Job, notes: int) -> None:
        self.made = 0
        self._matching = 0
        self._kill = job.get("kill")
        self._signal = job.get("signal_at")
        self._lifts = job.get("max_file_until")
        self._notes = notes
        self._lock = threading.Lock()  # two threads write
        for name in CALLS:
            setattr(os, name, self._hooked(name, getattr(os, name)))

    def _hooked(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(*arguments: Any, **options: Any) -> Any:
            what = f"{name} {_path(arguments, options)}"
            is_chosen = self._is_chosen(what)
            kill = self._kill or {}
            if is_chosen and kill["how"] != "after":
                if kill["how"] == "torn" and name == "fsync":
                    _tear(arguments[0])
                self._end(f"{kill['how']} {what}")
            done = call(*arguments, **options)
            if is_chosen:
                self._end(f"after {what}")
            return done

        return hooked

    def _is_chosen(self, what: str) -> bool:
        with self._lock:
            self.made += 1
            if self._signal is not None and self._signal["within"] in what:
                os.kill(os.getpid(), self._signal["signal"])
                self._signal = None
            if self._lifts is not None and self._lifts in what:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            if self._kill is None or self._kill.get("within", "") not in what:
                return False
            self._matching += 1
            return bool(self._matching == self._kill["number"])

    def _end(self, moment: str) -> None:
        os.write(self._notes, f"killed {moment}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


def _tear(descriptor: int) -> None:
    """Lose some of what was written last: half of a file that is written whole, the end of one that is appended to."""
    facts = os.fstat(descriptor)
    if stat.S_ISREG(facts.st_mode):
        is_whole = ".tmp" in _of_descriptor(descriptor)
        os.ftruncate(descriptor, facts.st_size // 2 if is_whole else max(0, facts.st_size - 10))


def _path(arguments: tuple[Any, ...], options: Mapping[str, Any]) -> str:
    """Path that a call is about, as far as the system tells."""
    folder = options.get("dir_fd")
    first = arguments[0]
    if isinstance(first, int):
        return _of_descriptor(first)
    return str(first) if folder is None else f"{_of_descriptor(folder)}/{first}"


def _of_descriptor(number: int) -> str:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/self/fd/{number}").readlink())
    return f"descriptor {number}"


def moments(choice: random.Random, *, seconds: float, num_calls: int) -> Iterator[dict[str, Any]]:
    """Yield where to kill, without end: half the time by the clock, half at a call that changes the disk.

    Args:
        choice: the random numbers.
        seconds: that the whole run takes.
        num_calls: that it makes.
    """
    while True:
        if choice.random() < 0.5:
            yield {"kill_after": choice.uniform(0, seconds)}
        else:
            how = choice.choice(["before", "after", "torn"])
            yield {"kill": {"number": choice.randint(1, num_calls), "how": how}}


if __name__ == "__main__":
    serve()
