"""Closed-loop schedulers: rules that decide the rate from what the run itself shows. They need torch alone."""

from lrlab.schedulers.article import ArticleLR
from lrlab.schedulers.base import Decision, SignalScheduler
from lrlab.schedulers.greedy import GreedyLR
from lrlab.schedulers.layerwise import LayerwiseLR, WeakGradients
from lrlab.schedulers.phases import PhasesLR
from lrlab.schedulers.plateau import PlateauLR
from lrlab.schedulers.refined import RefinedLR, refined_multipliers
from lrlab.schedulers.rule import RuleLR
from lrlab.schedulers.slope import SlopeLR
from lrlab.schedulers.snr import SnrLR
from lrlab.schedulers.stationarity import StationarityLR

__all__ = [
    "ArticleLR",
    "Decision",
    "GreedyLR",
    "LayerwiseLR",
    "PhasesLR",
    "PlateauLR",
    "RefinedLR",
    "RuleLR",
    "SignalScheduler",
    "SlopeLR",
    "SnrLR",
    "StationarityLR",
    "WeakGradients",
    "refined_multipliers",
]
