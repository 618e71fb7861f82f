"""Several ranks under torchrun, as processes that something may be done to.

launched = launch("train", "--config", "tiny.toml", "--run", "runs/two", log=Path("two.log"))
launched.signal(1, signal.SIGKILL)
launched.wait()
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 300.0
"""Seconds after which ranks are taken to hang."""


class Launched:
    """torchrun, and the ranks that it started."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    def ranks(self) -> dict[int, int]:
        """Return rank -> process of those that are there."""
        found = {}
        for folder in Path("/proc").iterdir():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                words = (folder / "environ").read_bytes().split(b"\0")
            except (OSError, ValueError, IndexError):  # not a process, or gone meanwhile
                continue
            if parent == self.process.pid:
                found |= {int(word[5:]): int(folder.name) for word in words if word.startswith(b"RANK=")}
        return found

    def signal(self, rank: int, number: signal.Signals) -> None:
        """Send a signal to one rank."""
        os.kill(self.ranks()[rank], number)

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait for something to happen, while torchrun is there.

        Raises: TimeoutError; RuntimeError if torchrun ends before.
        """
        until = time.monotonic() + PATIENCE
        while not holds():
            if self.process.poll() is not None:
                raise RuntimeError(f"torchrun ended with exit code {self.process.returncode}:\n{self.text()}")
            if time.monotonic() > until:
                self.end()
                raise TimeoutError(self.text())
            time.sleep(0.02)

    def wait(self) -> int:
        """Wait for the end of torchrun, and return its exit code."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.end()
            raise

    def end(self) -> None:
        """End all of it."""
        for process in (*self.ranks().values(), self.process.pid):
            os.kill(process, signal.SIGKILL)
        self.process.wait()

    def text(self) -> str:
        """Return what all of them have said so far."""
        return self._log.read_text()


def launch(
    *arguments: str, log: Path, num_ranks: int = 2, num_restarts: int = 0, environment: dict[str, str] | None = None
) -> Launched:
    """Start ranks on this machine, on the loopback alone.

    Args:
        arguments: of lrlab.
        log: where all that they say goes.
        num_ranks: how many.
        num_restarts: times that torchrun starts all of them again.
        environment: added to ours.
    """
    options = ["--nproc-per-node", str(num_ranks), "--max-restarts", str(num_restarts)]
    # without the dashes torchrun takes lrlab's --run for an abbreviation of an option of its own
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "--", "lrlab", *arguments]
    return Launched(command, {**os.environ, "GLOO_SOCKET_IFNAME": "lo", **(environment or {})}, log)
