"""What is kept of a model, as bytes."""

from __future__ import annotations

from safetensors.torch import save
from torch import nn


def model_bytes(model: nn.Module) -> bytes:
    """Return the weights and buffers of a model in the safetensors format."""
    return save({name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()})
