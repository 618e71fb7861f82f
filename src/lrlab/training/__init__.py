"""Training: the loop, how a step is computed, the evaluation, and the rows that come of it."""

from lrlab.training.divergence import DivergedError
from lrlab.training.engine import Engine, EngineError, choose_engine
from lrlab.training.evaluate import Evaluation, Score, estimate_statistics, evaluate
from lrlab.training.loop import Update, train
from lrlab.training.memory import OutOfMemoryError, memory_errors
from lrlab.training.network import Network
from lrlab.training.records import Recorder, Rows, divergence

__all__ = [
    "DivergedError",
    "Engine",
    "EngineError",
    "Evaluation",
    "Network",
    "OutOfMemoryError",
    "Recorder",
    "Rows",
    "Score",
    "Update",
    "choose_engine",
    "divergence",
    "estimate_statistics",
    "evaluate",
    "memory_errors",
    "train",
]
