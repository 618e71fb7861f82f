"""Runs in which something goes wrong, forked from a process that has PyTorch loaded: benchmarks/crashing.py."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crashing import Ended, Warm

CONFIG: dict[str, Any] = {
    "model": {"width": 2},
    "batch_size": 16,
    "steps": 40,
    "checkpoint": {"every": 10},
    "evaluate": {"every": 20},
    "telemetry": {"flush_every": 7},
    "schedule": {"name": "article", "check_every": 9, "multiplier": 1000.0},
}
"""Checkpoints after 10, 20, 30 and 40 updates, of which two are kept."""

Do = Callable[..., Ended]


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    if sys.platform != "linux":
        pytest.skip("forks, limits and looks into /proc as Linux alone has them")
    with Warm() as process:
        yield process


@pytest.fixture
def config() -> dict[str, Any]:
    return CONFIG


@pytest.fixture
def do(warm: Warm, tmp_path: Path) -> Do:
    """Do a job in the test's folder: make or resume the run `run`, or call the command line."""

    def done(run: str = "run", *, config: dict[str, Any] = CONFIG, **job: Any) -> Ended:
        what = {"folder": str(tmp_path)} if "lrlab" in job else {"run": str(tmp_path / run), "config": config}
        return warm.do({**what, **job})

    return done


@pytest.fixture(scope="session")
def whole(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CONFIG that nobody disturbed."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    assert warm.do({"run": str(directory), "config": CONFIG}).code == 0
    return directory


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as the test's own is not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.fixture
def as_somebody() -> dict[str, int]:
    """Options of a job that is done without the rights of root, whom no permission stops."""
    return {"uid": 65534} if os.getuid() == 0 else {}
