"""lrlab: a laboratory for learning rates.

The names below are loaded when they are first asked for, so that importing lrlab costs next to nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "ArticleLR": "lrlab.schedulers",
    "Experiment": "lrlab.experiments",
    "GradientProbe": "lrlab.probes",
    "GreedyLR": "lrlab.schedulers",
    "LayerwiseLR": "lrlab.schedulers",
    "OutputGradientProbe": "lrlab.probes",
    "PhasesLR": "lrlab.schedulers",
    "PlateauLR": "lrlab.schedulers",
    "RefinedLR": "lrlab.schedulers",
    "Run": "lrlab.runs",
    "RunConfig": "lrlab.config",
    "SlopeLR": "lrlab.schedulers",
    "SnrLR": "lrlab.schedulers",
    "StationarityLR": "lrlab.schedulers",
    "compare_runs": "lrlab.compare",
    "find_runs": "lrlab.runs",
    "layer_groups": "lrlab.models",
    "load_trained": "lrlab.experiments",
    "parse_config": "lrlab.config",
    "range_test": "lrlab.training",
    "read_run": "lrlab.runs",
    "write_report": "lrlab.report",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lrlab' has no attribute '{name}'. It has: {', '.join(__all__)}.")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
