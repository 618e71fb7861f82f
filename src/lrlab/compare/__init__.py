"""Honest comparison of runs: paired by seed, with intervals, tests and their limits. Nothing here needs torch."""

from lrlab.compare.comparison import Arm, ArmTime, Comparison, PairRace, compare_runs
from lrlab.compare.differences import Difference, LeftOut
from lrlab.compare.document import to_document, write_csv
from lrlab.compare.measures import CompareError, Measure
from lrlab.compare.notes import notes
from lrlab.compare.sentences import count_verdicts, race_sentence, sentence
from lrlab.compare.times import Median, Profile, Race

__all__ = [
    "Arm",
    "ArmTime",
    "CompareError",
    "Comparison",
    "Difference",
    "LeftOut",
    "Measure",
    "Median",
    "PairRace",
    "Profile",
    "Race",
    "compare_runs",
    "count_verdicts",
    "notes",
    "race_sentence",
    "sentence",
    "to_document",
    "write_csv",
]
