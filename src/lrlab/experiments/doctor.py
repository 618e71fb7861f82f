"""What a machine has for training, and what a run on it will use."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import torch
import torch.distributed as dist

from lrlab.runs.environment import describe_environment, num_usable_cpus
from lrlab.training import choose_engine
from lrlab.training.compiling import has_compiler

EXTRAS: Final = {
    "ray": "ray",
    "lightning": "lightning",
    "transformers": "transformers",
    "onnxruntime": "onnx",
    "trackio": "trackers",
    "mlflow": "trackers",
    "wandb": "trackers",
}
"""Package -> the extra that installs it."""


def diagnose() -> dict[str, dict[str, str]]:
    """Return what is found, and what follows from it: section -> name -> sentence.

    Threads and the like are set for the whole process as a run would have them.
    """
    facts = describe_environment()
    return {
        "program": {
            "lrlab": facts["packages"]["lrlab"],
            "Python": facts["python"],
            "PyTorch": facts["packages"]["torch"],
        },
        "machine": {"system": facts["platform"], "processor": facts["processor"], **_devices()},
        "a run will use": _used(),
        "more than one process": _processes(),
        "extras": {package: _installed(package, extra) for package, extra in EXTRAS.items()},
    }


def _devices() -> dict[str, str]:
    found = {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": f"{num_usable_cpus()} that this process may use, of {os.cpu_count()}",
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found["memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    found["GPUs"] = ", ".join(names) if names else "PyTorch sees no CUDA GPU"
    return found


def _used() -> dict[str, str]:
    engine = choose_engine(precision="auto", keep_memory=True)
    if engine.device.type == "cuda":
        telemetry = "not compiled: it is on CPUs only"
    elif has_compiler():
        telemetry = "compiled for networks of a million parameters and more"
    else:
        telemetry = "not compiled, so it costs a little more: no C++ compiler (g++ or clang++)"
    return {
        "device": f"{engine.device_name} (--device auto)",
        "precision": f"fp32; with --precision auto {engine.precision}",
        "threads": f"{torch.get_num_threads()} per operation (engine.threads changes it)",
        "telemetry": telemetry,
        "memory": f"{engine.memory} between updates",
    }


def _processes() -> dict[str, str]:
    if not dist.is_available():
        return {"torchrun": "not available in this build of PyTorch"}
    backends = [
        name for name, is_there in (("gloo", dist.is_gloo_available()), ("nccl", dist.is_nccl_available())) if is_there
    ]
    return {"torchrun": f"one run by several ranks, through {' and '.join(backends)}"}


def _installed(package: str, extra: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return f"not installed: pip install 'lrlab[{extra}]'"
