"""What is kept of a training, as bytes: weights alone, or all the state that it needs to go on."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn


class CheckpointError(ValueError):
    """A checkpoint holds what none may hold, or not what this training needs."""

    exit_code: ClassVar[int] = 5


def model_bytes(model: nn.Module) -> bytes:
    """Return the weights and buffers of a model in the safetensors format."""
    return save({name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()})


def load_weights(content: bytes) -> dict[str, Tensor]:
    """Return the weights and buffers in what `model_bytes` gave, by name.

    Raises: CheckpointError if the bytes are no safetensors file.
    """
    try:
        return load(content)
    except SafetensorError as error:
        raise CheckpointError(f"The weights are those of another model: {error}") from error


def load_model(model: nn.Module, content: bytes) -> None:
    """Put weights and buffers into a model, which keeps its tensors.

    Raises: CheckpointError if they are those of another model.
    """
    try:
        model.load_state_dict(load_weights(content))
    except RuntimeError as error:
        raise CheckpointError(f"The weights are those of another model: {error}") from error


def state_bytes(state: Mapping[str, Any]) -> bytes:
    """Return state as bytes that load without running anything.

    Args:
        state: tensors, numbers, strings, None, and lists, tuples and dictionaries of them.
    Raises: TypeError, naming the place of anything else.
    """
    _check_plain(state, "state")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def load_state(content: bytes) -> dict[str, Any]:
    """Return what `state_bytes` was given, its tensors on the processor. Nothing in the bytes is ever executed.

    Raises: CheckpointError if it holds anything else than tensors, numbers, strings and containers of them.
    """
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # on bytes that somebody made up, torch's reader raises whatever comes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"state.pt was not written by lrlab ({reason}). Do not trust its source.") from error
    if not isinstance(state, dict):
        raise CheckpointError("state.pt was not written by lrlab: it must hold a dictionary.")
    return state


def _check_plain(value: object, place: str) -> None:
    if isinstance(value, Mapping):
        for key, part in value.items():
            _check_plain(key, f"a key of {place}")
            _check_plain(part, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for position, part in enumerate(value):
            _check_plain(part, f"{place}[{position}]")
    elif not (value is None or type(value) in (bool, int, float, str) or isinstance(value, Tensor)):
        raise TypeError(
            f"{place}: a checkpoint holds only tensors, numbers and strings, got {type(value).__name__}. "
            "Leave it out of its state_dict."
        )
