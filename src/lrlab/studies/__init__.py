"""Studies: a plan becomes runs, by processes that may die. Nothing here loads torch but the processes that train."""

from lrlab.studies.members import Died, Ended, Member, Progress, StudyEvent, Waiting
from lrlab.studies.ray import Resources
from lrlab.studies.study import run_study, study_members
from lrlab.studies.task import ClusterError
from lrlab.studies.tuning import Choice, tuning_members

__all__ = [
    "Choice",
    "ClusterError",
    "Died",
    "Ended",
    "Member",
    "Progress",
    "Resources",
    "StudyEvent",
    "Waiting",
    "run_study",
    "study_members",
    "tuning_members",
]
