"""Training: the loop, how a step is computed, the evaluation, and the rows that come of it."""

from lrlab.training.engine import Engine, EngineError, choose_engine
from lrlab.training.evaluate import Evaluation, Score, evaluate
from lrlab.training.loop import Update, train
from lrlab.training.network import Network
from lrlab.training.records import DivergedError, Recorder, Row, divergence, step_of

__all__ = [
    "DivergedError",
    "Engine",
    "EngineError",
    "Evaluation",
    "Network",
    "Recorder",
    "Row",
    "Score",
    "Update",
    "choose_engine",
    "divergence",
    "evaluate",
    "step_of",
    "train",
]
