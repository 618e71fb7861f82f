"""Training: the loop, how a step is computed, the evaluation, the rows that come of it, and the range test."""

from lrlab.training.batchnorm import synchronise
from lrlab.training.calibration import Calibration, calibrate
from lrlab.training.curvature import Curvature, CurvatureError, measure_curvature
from lrlab.training.distributed import ALONE, ElsewhereError, RankError, Ranks
from lrlab.training.divergence import DivergedError
from lrlab.training.engine import Engine, EngineError, choose_engine
from lrlab.training.evaluate import Evaluation, Score, estimate_statistics, evaluate, features, predict
from lrlab.training.joining import joined
from lrlab.training.loop import Update, train
from lrlab.training.memory import OutOfMemoryError, memory_errors
from lrlab.training.network import Network
from lrlab.training.range_test import range_test
from lrlab.training.records import Recorder, Rows, divergence
from lrlab.training.restore import restored
from lrlab.training.surface import LossSurface
from lrlab.training.sweep import RangeTest, RateRange, Sweep, SweepRecorder

__all__ = [
    "ALONE",
    "Calibration",
    "Curvature",
    "CurvatureError",
    "DivergedError",
    "ElsewhereError",
    "Engine",
    "EngineError",
    "Evaluation",
    "LossSurface",
    "Network",
    "OutOfMemoryError",
    "RangeTest",
    "RankError",
    "Ranks",
    "RateRange",
    "Recorder",
    "Rows",
    "Score",
    "Sweep",
    "SweepRecorder",
    "Update",
    "calibrate",
    "choose_engine",
    "divergence",
    "estimate_statistics",
    "evaluate",
    "features",
    "joined",
    "measure_curvature",
    "memory_errors",
    "predict",
    "range_test",
    "restored",
    "synchronise",
    "train",
]
