"""Runs members on a Ray cluster, each as a task with processors and GPUs of its own. Ray Core alone."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import sys
import uuid
import warnings
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lrlab import __version__
from lrlab.studies.elsewhere import Elsewhere, Try, settle
from lrlab.studies.members import Died, Ended, Member, Waiting
from lrlab.studies.messages import Checked, Message
from lrlab.studies.task import ClusterError, Place, do

LOCAL: Final = "local"
"""In place of an address: a cluster that is this machine, begun and ended with the study."""
OLDEST: Final = (2, 52)
"""Before it a page in a browser could run code on a cluster (CVE-2025-62593)."""
MOST_UNDER_WAY: Final = 1_000
"""Tasks that Ray is given at once, more than which only wait there."""


@dataclass(frozen=True)
class Resources:
    """What one run is given of a cluster."""

    num_cpus: int = 1
    """Processors; as many threads are used for one operation, unless engine.threads says otherwise."""
    num_gpus: float = 0.0
    """GPUs, a fraction too: so many runs then share one, which does not keep their memory apart."""


ONE_CPU: Final = Resources()


class Cluster(Elsewhere):
    """An executor of tasks on the nodes of a cluster, any of which may die; results go to storage that all share."""

    def __init__(self, address: str, *, resources: Resources, folder: Path) -> None:
        """Connect to a cluster, or begin one.

        Args:
            address: HOST:PORT of its head, auto for the one that this machine is part of, or local.
            resources: of each run.
            folder: of the study.
        Raises: ClusterError.
        """
        self._ray = _import_ray(address)
        _connect(self._ray, address)
        self._stop = folder.absolute() / f".stop-{uuid.uuid4().hex}"  # made when the study ends early
        self._place = Place(
            str(Path.cwd()),
            str(self._stop),
            sys.argv,
            __version__,
            num_threads=resources.num_cpus,
            has_gpu=resources.num_gpus > 0,
        )
        self._under_way: dict[Any, Try] = {}  # task -> what it does
        self._check_room(address, resources)
        options = {"num_returns": "streaming", "max_retries": 0, "num_cpus": resources.num_cpus}
        self._task = self._ray.remote(**options, num_gpus=resources.num_gpus)(do)
        self._silent: set[Any] = set()  # tasks of which no word was heard: they may still wait for room

    def close(self) -> None:
        """Have what is under way saved, wait for it, and leave the cluster."""
        try:
            if self._under_way:
                self._stop.parent.mkdir(parents=True, exist_ok=True)  # there is none before the arms are checked
                self._stop.touch()
                for task in self._waiting_for_room():
                    self._ray.cancel(task)
                for task, tried in self._under_way.items():
                    with suppress(self._ray.exceptions.RayError):
                        for answer in task:
                            settle(self._ray.get(answer), tried, deque())
        finally:
            self._stop.unlink(missing_ok=True)
            self._ray.shutdown()

    def _work(self, waiting: deque[Try]) -> Generator[tuple[Member, Message], None, None]:
        under_way = self._under_way
        while waiting or under_way:
            while waiting and len(under_way) < MOST_UNDER_WAY:
                tried = waiting.popleft()
                task = self._task.remote(tried[0], self._place)
                under_way[task] = tried
                self._silent.add(task)
            tasks = list(under_way)
            if not self._ray.wait(tasks, timeout=1.0)[0]:
                yield under_way[tasks[0]][0].member, Waiting()  # whoever iterates may want to stop
            ready, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=0)
            for task in ready:
                tried, message = under_way[task], self._hear(task)
                self._silent.discard(task)
                if isinstance(message, Died | Ended | Checked):
                    del under_way[task]
                yield tried[0].member, settle(message, tried, waiting)

    def _waiting_for_room(self) -> list[Any]:
        """Tasks that have not begun. One that has is not to be cancelled, which would cut it short wherever it is."""
        silent = list(self._silent & self._under_way.keys())
        return list(self._ray.wait(silent, num_returns=len(silent), timeout=0)[1]) if silent else []

    def _hear(self, task: Any) -> Message:
        """Return what a task says next; how it died, if it did.

        Raises: whatever went wrong in the task that is our mistake.
        """
        exceptions = self._ray.exceptions
        try:
            message: Message = self._ray.get(next(task))
        except exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except StopIteration:
            return Died("without a reason")
        except exceptions.RayError as error:
            return Died(f"by {type(error).__name__}")
        return message

    def _check_room(self, address: str, resources: Resources) -> None:
        """Check that a node has what a run needs: Ray would wait for one for ever.

        Raises: ClusterError.
        """
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(
            node.get("CPU", 0) >= resources.num_cpus and node.get("GPU", 0) >= resources.num_gpus for node in nodes
        ):
            has = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
            self._ray.shutdown()
            raise ClusterError(
                f"--ray {address}: no node has {resources.num_cpus} CPUs and {resources.num_gpus:g} GPUs for a run "
                f"(there are {has}). Lower --cpus or --gpus, or add a node."
            )


def _import_ray(address: str) -> Any:
    """Import Ray with the settings that it reads on being imported: a token is asked for, and here the loopback alone.

    Raises: ClusterError if it is not there, or too old.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if address == LOCAL:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray puts one into the home folder
        # by its name for other systems; without it Ray listens on all interfaces
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise ClusterError(f"--ray needs Ray ({error}): pip install 'lrlab[ray]'.") from error
    found = tuple(int(number) for number in re.findall(r"\d+", ray.__version__)[:2])
    if found < OLDEST:
        raise ClusterError(
            f"--ray needs Ray {'.'.join(map(str, OLDEST))} or newer, whose clusters web pages cannot reach, got "
            f"{ray.__version__}: pip install --upgrade 'lrlab[ray]'."
        )
    return ray


def _connect(ray: Any, address: str) -> None:
    """Raises: ClusterError."""
    if address.startswith("ray://"):
        raise ClusterError(
            f"--ray {address}: a Ray Client connection is not supported. Start the study on a node of the cluster, "
            "with --ray auto, or with the address of its head, HOST:PORT."
        )
    options: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address not in (LOCAL, "auto"):
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=5.0).close()  # Ray would try for minutes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that GPUs will not be hidden from tasks without some
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", namespace="lrlab", **options)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ClusterError(
            f"--ray {address}: no connection ({lines[0].rstrip('.')}). Is a cluster running there (ray start --head), "
            "and its token here (ray get-auth-token, or RAY_AUTH_TOKEN_PATH)?"
        ) from error
    if signal.getsignal(signal.SIGTERM) is not handler:
        signal.signal(signal.SIGTERM, handler)  # Ray's would end the study at once, with nothing saved
