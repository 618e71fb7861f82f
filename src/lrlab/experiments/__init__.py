"""Experiments: names become objects, a configuration becomes a run, a plan becomes a study."""

from lrlab.experiments.build import build_data
from lrlab.experiments.data_sets import check_data_set, fetch_data_set, list_data_sets
from lrlab.experiments.preview import preview_rates
from lrlab.experiments.run import Experiment
from lrlab.experiments.session import Evaluated, Event
from lrlab.experiments.study import Ended, Member, Started, StudyEvent, run_study, study_members
from lrlab.training import Update

__all__ = [
    "Ended",
    "Evaluated",
    "Event",
    "Experiment",
    "Member",
    "Started",
    "StudyEvent",
    "Update",
    "build_data",
    "check_data_set",
    "fetch_data_set",
    "list_data_sets",
    "preview_rates",
    "run_study",
    "study_members",
]
