"""Experiments: names become objects, a configuration becomes a run."""

from lrlab.experiments.build import build_data
from lrlab.experiments.data_sets import check_data_set, fetch_data_set, list_data_sets
from lrlab.experiments.doctor import diagnose
from lrlab.experiments.events import Evaluated, Event
from lrlab.experiments.export import Export, export_run
from lrlab.experiments.generalisation import measure_generalisation
from lrlab.experiments.preview import preview_rates
from lrlab.experiments.range_test import RangeTestPlan, plan_range_test, run_range_test
from lrlab.experiments.refine import refine_run
from lrlab.experiments.replay import calibrate_rule, replay_rule
from lrlab.experiments.run import Experiment
from lrlab.experiments.sharpness import Sharpness, SharpnessPlan, measure_sharpness
from lrlab.experiments.trained import TrainedModel, UnreadableError, load_trained
from lrlab.experiments.verify import Verification, verify_run
from lrlab.schedulers.simulate import RuleCalibration
from lrlab.training import DivergedError, RangeTest, Sweep, Update, joined

__all__ = [
    "DivergedError",
    "Evaluated",
    "Event",
    "Experiment",
    "Export",
    "RangeTest",
    "RangeTestPlan",
    "RuleCalibration",
    "Sharpness",
    "SharpnessPlan",
    "Sweep",
    "TrainedModel",
    "UnreadableError",
    "Update",
    "Verification",
    "build_data",
    "calibrate_rule",
    "check_data_set",
    "diagnose",
    "export_run",
    "fetch_data_set",
    "joined",
    "list_data_sets",
    "load_trained",
    "measure_generalisation",
    "measure_sharpness",
    "plan_range_test",
    "preview_rates",
    "refine_run",
    "replay_rule",
    "run_range_test",
    "verify_run",
]
