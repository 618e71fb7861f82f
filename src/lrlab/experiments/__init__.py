"""Experiments: names become objects, a configuration becomes a run, a plan becomes a study."""

from lrlab.experiments.build import build_data
from lrlab.experiments.data_sets import check_data_set, fetch_data_set, list_data_sets
from lrlab.experiments.preview import preview_rates
from lrlab.experiments.range_test import RangeTestPlan, plan_range_test, run_range_test
from lrlab.experiments.refine import refine_run
from lrlab.experiments.replay import calibrate_rule, replay_rule
from lrlab.experiments.run import Experiment
from lrlab.experiments.session import Evaluated, Event
from lrlab.experiments.study import Ended, Member, Started, StudyEvent, run_study, study_members
from lrlab.schedulers.simulate import Calibration
from lrlab.training import RangeTest, Sweep, Update

__all__ = [
    "Calibration",
    "Ended",
    "Evaluated",
    "Event",
    "Experiment",
    "Member",
    "RangeTest",
    "RangeTestPlan",
    "Started",
    "StudyEvent",
    "Sweep",
    "Update",
    "build_data",
    "calibrate_rule",
    "check_data_set",
    "fetch_data_set",
    "list_data_sets",
    "plan_range_test",
    "preview_rates",
    "refine_run",
    "replay_rule",
    "run_range_test",
    "run_study",
    "study_members",
]
