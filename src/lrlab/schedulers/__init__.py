"""Closed-loop schedulers: rules that decide the rate from what the run itself shows. They need torch alone."""

from lrlab.schedulers.article import ArticleLR
from lrlab.schedulers.base import Decision, SignalScheduler
from lrlab.schedulers.plateau import PlateauLR

__all__ = ["ArticleLR", "Decision", "PlateauLR", "SignalScheduler"]
