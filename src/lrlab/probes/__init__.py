"""Probes: each reads one quantity for each layer group around an update. They need torch alone."""

from lrlab.probes.base import Probe
from lrlab.probes.gradient import GradientProbe
from lrlab.probes.output_gradient import OutputGradientProbe

__all__ = ["GradientProbe", "OutputGradientProbe", "Probe"]
