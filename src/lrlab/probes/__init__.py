"""Probes: each reads one quantity for each layer group around an update. They need torch alone."""

from lrlab.probes.adam_snr import AdamSnrProbe
from lrlab.probes.base import Probe
from lrlab.probes.dead_relu import DeadReluProbe
from lrlab.probes.gradient import GradientProbe
from lrlab.probes.gradient_cosine import GradientCosineProbe
from lrlab.probes.noise_scale import NoiseScaleProbe
from lrlab.probes.output_gradient import OutputGradientProbe
from lrlab.probes.update_ratio import UpdateRatioProbe
from lrlab.probes.weight_norm import WeightNormProbe

__all__ = [
    "AdamSnrProbe",
    "DeadReluProbe",
    "GradientCosineProbe",
    "GradientProbe",
    "NoiseScaleProbe",
    "OutputGradientProbe",
    "Probe",
    "UpdateRatioProbe",
    "WeightNormProbe",
]
