"""The thread that writes: nothing is lost, nothing hangs, and whoever submits hears of what failed."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from lrlab.runs.background import MAX_JOBS, Background


@pytest.fixture
def background() -> Iterator[Background]:
    background = Background()
    yield background
    background.close()


def test_jobs_are_done_in_order_in_another_thread(background: Background) -> None:
    done: list[tuple[int, str]] = []
    for number in range(50):
        background.submit(lambda number=number: done.append((number, threading.current_thread().name)))
    background.wait()
    assert done == [(number, "lrlab-writer") for number in range(50)]


def test_closing_waits_for_what_is_left() -> None:
    background, gate, done = Background(), threading.Event(), []
    background.submit(gate.wait)  # type: ignore[arg-type]
    background.submit(lambda: done.append(1))
    threading.Timer(0.05, gate.set).start()
    background.close()
    assert done == [1]


def fails_once(error: Exception, done: list[str]) -> Callable[[], None]:
    """A job that fails the first time, as on a disk that was full for a while."""
    errors = [error]

    def job() -> None:
        if errors:
            raise errors.pop()
        done.append("failed once")

    return job


def test_an_error_is_raised_by_the_next_call_and_the_job_is_done_again_before_any_other(background: Background) -> None:
    done: list[str] = []
    background.submit(fails_once(OSError("full"), done))
    with pytest.raises(OSError, match="full"):
        background.wait()
    background.submit(lambda: done.append("next"))
    background.wait()
    assert done == ["failed once", "next"]


def test_a_job_that_meets_the_error_of_another_is_not_taken(background: Background) -> None:
    done: list[str] = []
    failed = threading.Event()

    def job() -> None:
        if not failed.is_set():
            failed.set()
            raise OSError("full")

    background.submit(job)
    assert failed.wait(timeout=10)
    with pytest.raises(OSError, match="full"):
        for _ in range(2):  # the error may be on its way still at the first
            background.submit(lambda: done.append("taken"))
            background.wait()
    background.wait()
    assert len(done) <= 1


def test_whoever_waits_for_room_is_woken_by_an_error() -> None:
    background, gate = Background(), threading.Event()

    def job() -> None:
        gate.wait()
        raise OSError("full")

    for _ in range(MAX_JOBS):
        background.submit(job)
    threading.Timer(0.05, gate.set).start()
    with pytest.raises(OSError, match="full"):
        background.submit(lambda: None)
    with pytest.raises(OSError, match="full"):
        background.close()


def test_no_more_jobs_wait_than_there_is_room_for() -> None:
    background, gate, taken = Background(), threading.Event(), []

    def submit() -> None:
        for number in range(2 * MAX_JOBS):
            background.submit(gate.wait)  # type: ignore[arg-type]
            taken.append(number)

    submitting = threading.Thread(target=submit)
    submitting.start()
    submitting.join(timeout=0.2)
    assert len(taken) == MAX_JOBS
    gate.set()
    submitting.join()
    background.close()


def test_a_program_that_forgets_to_close_ends() -> None:
    code = "from lrlab.runs.background import Background; Background().submit(lambda: None)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
