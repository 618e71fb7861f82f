"""Layer groups: the parts of a network that are watched, and given rates, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn
from torch.nn.parallel import DistributedDataParallel

LayerGroups = dict[str, list[nn.Parameter]]
"""Name of a group -> its trainable parameters, in the model's order."""


def layer_groups(model: nn.Module, patterns: Mapping[str, str] | None = None) -> LayerGroups:
    """Part the trainable parameters of a model into named groups.

    Args:
        model: any module; what torch.compile or DistributedDataParallel made of one has the groups of that one.
        patterns: group name -> regular expression, searched in the names of the parameters; the first that
            matches has the parameter. Without it the groups are the model's children, in order, and the model's
            own parameters, if any, are the group `model`.
    Raises: ValueError if a parameter is in no group, a group has no parameter, or a pattern is no regular expression.
    """
    while isinstance(model, DistributedDataParallel | nn.DataParallel) or hasattr(model, "_orig_mod"):
        inner = model._orig_mod if hasattr(model, "_orig_mod") else model.module
        assert isinstance(inner, nn.Module), "a wrapper is of a module"
        model = inner
    for pattern in (patterns or {}).values():
        try:
            re.compile(pattern)
        except (re.error, OverflowError) as error:
            raise ValueError(f"layer_groups: {pattern!r} is not a valid regular expression ({error}).") from error
    groups: LayerGroups = {name: [] for name in patterns or ()}
    homeless = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if patterns is None:
            child, dot, _ = name.partition(".")
            groups.setdefault(child if dot else "model", []).append(parameter)
            continue
        group = next((group for group, pattern in patterns.items() if re.search(pattern, name)), None)
        if group is None:
            homeless.append(name)
        else:
            groups[group].append(parameter)
    empty = [name for name, parameters in groups.items() if not parameters]
    if homeless or empty or not groups:
        raise ValueError(
            "layer_groups: every trainable parameter must be in a group, and every group must have one; "
            f"in no group: {homeless or 'none'}; groups that match nothing: {empty or 'none'}."
        )
    return groups
