"""Telemetry in one compiled pass over a network's numbers, where that pays."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from lrlab.training.engine import Engine, EngineError

NUM_PARAMETERS_TO_COMPILE = 1_000_000
"""From this size on the telemetry is compiled where engine.compile is auto: below, it costs little either way."""


def compiled(
    measure: Callable[..., Tensor], *examples: object, engine: Engine, num_parameters: int
) -> Callable[..., Tensor] | None:
    """Compile what is measured of a network, where that is asked for, or pays: seconds now against a large network.

    Args:
        measure: of tensors.
        examples: what it is given, of the types and shapes of all that follows.
        engine: says whether to.
        num_parameters: of the network.
    Returns: None where it is better left as it is; a warning says so if it was to be and could not.
    Raises: EngineError if it must be and cannot.
    """
    pays = engine.device.type == "cpu" and num_parameters >= NUM_PARAMETERS_TO_COMPILE
    if engine.compile is False or (engine.compile == "auto" and not (pays and has_compiler())):
        return None
    try:
        function = torch.compile(measure, dynamic=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of what it imports
            function(*examples)  # compiles it now
    except (RuntimeError, OSError) as error:  # the second of the folder that it keeps its work in
        if engine.compile is True:
            raise EngineError(f"engine.compile: torch.compile failed ({error}). Leave the key out.") from error
        warnings.warn(
            f"The telemetry could not be compiled, so it costs more ({repr(error).splitlines()[0]}). "
            "Silence this with engine.compile = false.",
            stacklevel=2,
        )
        return None
    return function


def has_compiler() -> bool:
    """Whether there is what torch.compile needs on a processor."""
    return any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++")))
