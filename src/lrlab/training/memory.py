"""A step that the machine has not the memory for: one line that says what to lower."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch


class OutOfMemoryError(RuntimeError):
    """The machine has not the memory that a step takes."""

    exit_code: ClassVar[int] = 2
    """As of an engine that is not there: the configuration does not fit the machine."""


@contextmanager
def memory_errors(advice: str) -> Iterator[None]:
    """Turn what Python, PyTorch's allocator or a GPU says about missing memory into one line.

    Args:
        advice: what takes the memory, and what to do.
    Raises: OutOfMemoryError.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        traceback.clear_frames(error.__traceback__)  # what the step held is needed for writing the rows
        raise OutOfMemoryError(f"out of memory: {advice}") from error
