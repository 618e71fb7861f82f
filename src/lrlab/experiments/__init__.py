"""Experiments: names become objects, a configuration becomes a run."""

from lrlab.experiments.build import build_data
from lrlab.experiments.data_sets import check_data_set, fetch_data_set, list_data_sets
from lrlab.experiments.preview import preview_rates
from lrlab.experiments.refine import refine_run
from lrlab.experiments.replay import calibrate_rule, replay_rule
from lrlab.experiments.run import Experiment
from lrlab.experiments.session import Evaluated, Event
from lrlab.experiments.verify import Verification, verify_run
from lrlab.schedulers.simulate import Calibration
from lrlab.training import Update

__all__ = [
    "Calibration",
    "Evaluated",
    "Event",
    "Experiment",
    "Update",
    "Verification",
    "build_data",
    "calibrate_rule",
    "check_data_set",
    "fetch_data_set",
    "list_data_sets",
    "preview_rates",
    "refine_run",
    "replay_rule",
    "verify_run",
]
