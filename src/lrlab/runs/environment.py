"""What a run ran on: enough for somebody else to say whether theirs was the same."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_LAUNCH = "TORCHELASTIC_RUN_ID"
"""Where torchrun says which of its launches this is; the same when it starts its processes again."""
PACKAGES = ("lrlab", "torch", "numpy", "scikit-learn", "pillow", "pyarrow")


def describe_environment() -> dict[str, Any]:
    """Return interpreter, packages, machine and command as plain values."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "num_cpus": os.cpu_count(),
        **({"torchrun": os.environ[_LAUNCH]} if _LAUNCH in os.environ else {}),
        "command": [Path(sys.argv[0]).name.replace("__main__.py", "lrlab"), *sys.argv[1:]],  # as python -m, or not
    }


def num_usable_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache  # read from files, and of no use if it changes under a process
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _processor() -> str:
    """Name of the processor; the standard library knows it on some systems only."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        pairs = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        facts = {name.strip(): value.strip() for name, _, value in pairs}
        if "model name" in facts:
            return f"{facts['model name']} (family {facts.get('cpu family')}, model {facts.get('model')})"
    return platform.processor() or platform.machine()
