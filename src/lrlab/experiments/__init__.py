"""Experiments: names become objects, a configuration becomes a run, a plan becomes a study."""

from lrlab.experiments.build import build_data
from lrlab.experiments.data_sets import check_data_set, fetch_data_set, list_data_sets
from lrlab.experiments.preview import preview_rates
from lrlab.experiments.refine import refine_run
from lrlab.experiments.replay import calibrate_rule, replay_rule
from lrlab.experiments.run import Experiment
from lrlab.experiments.session import Evaluated, Event
from lrlab.experiments.study import Ended, Member, Started, StudyEvent, run_study, study_members
from lrlab.experiments.verify import Verification, verify_run
from lrlab.schedulers.simulate import Calibration
from lrlab.training import Update

__all__ = [
    "Calibration",
    "Ended",
    "Evaluated",
    "Event",
    "Experiment",
    "Member",
    "Started",
    "StudyEvent",
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
    "run_study",
    "study_members",
    "verify_run",
]
