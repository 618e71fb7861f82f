"""Networks, and the names of their parts."""

from lrlab.models.groups import LayerGroups, layer_groups
from lrlab.models.resnet import ResNet, resnet18, resnet34

__all__ = ["LayerGroups", "ResNet", "layer_groups", "resnet18", "resnet34"]
