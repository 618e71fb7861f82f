"""A network in one file: its weights as safetensors, and in the header all that must be known to build and use it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lrlab import __version__
from lrlab.config import ConfigError, ModelConfig
from lrlab.config.parse import check
from lrlab.config.parts import Count, Part, Positive
from lrlab.data import DataError
from lrlab.data.decode import MAX_PIXELS
from lrlab.data.images import check_classes
from lrlab.experiments.build import build_model
from lrlab.runs.storage import storage_errors
from lrlab.training.checkpoint import CheckpointError

KEY: Final = "lrlab"
"""Of the description in a file's metadata. It stands alone there: safetensors would write several keys in an order that
changes from one call to the next, and the same network would not be the same file."""
FORMAT_VERSION: Final = 1
"""Version of the description; a reader refuses another one."""

Weights = Mapping[str, Tensor]
"""Name in the plain model's `state_dict` -> tensor, contiguous, on the processor."""


MOST_CHANNELS: Final = 1_024
"""Of an image: a file only claims them, and the network is built for as many."""


class Description(Part):
    """All that must be known of a network besides its weights, and where it comes from."""

    format_version: Literal[1] = FORMAT_VERSION
    """Version of this description."""
    lrlab: str = __version__
    """Version of lrlab that wrote it."""
    model: ModelConfig
    """Which network."""
    classes: list[str]
    """Names; logit k is that of `classes[k]`."""
    image_shape: list[Count]
    """Channels, height and width of the images that it was trained on."""
    mean: list[float]
    """Of each channel of the training images, in units of full scale."""
    std: list[Positive]
    """Likewise."""
    step: Count
    """Updates that it was trained for."""


def describe_network(table: Mapping[str, Any]) -> Description:
    """Check what is said of a network.

    Raises: CheckpointError with a line for each thing that is wrong.
    """
    try:
        description = check(Description, dict(table))
        check_classes("classes", description.classes)
    except (ConfigError, DataError) as error:
        text = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in str(error))
        raise CheckpointError(text) from error
    shape, mean, std = description.image_shape, description.mean, description.std
    if len(shape) != 3 or shape[0] > MOST_CHANNELS or shape[1] * shape[2] > MAX_PIXELS:
        raise CheckpointError(f"image_shape must be channels, height and width, got {shape!s:.100}.")
    if not len(mean) == len(std) == shape[0]:
        raise CheckpointError(f"mean and std must be {shape[0]} each, one a channel, got {len(mean)} and {len(std)}.")
    return description


def build_network(description: Description, weights: Weights) -> nn.Module:
    """Build a network and give it its weights, after seeing that each has the shape and the type that it must have.

    Raises: CheckpointError if they are not those of such a network.
    """
    model, num_classes = description.model, len(description.classes)
    # first the two that all sizes follow from: what a file only claims must not decide how much is allocated
    for name, size in (("stem.0.weight", model.width), ("linear.bias", num_classes)):
        if name not in weights or weights[name].shape[:1] != (size,):
            raise CheckpointError(f"The weights are those of another model: the first size of {name} must be {size}.")
    with torch.device("meta"):
        network = build_model(model, num_classes=num_classes, in_channels=description.image_shape[0], seed=0)
    expected, found = ({name: _kind(tensor) for name, tensor in one.items()} for one in (network.state_dict(), weights))
    if wrong := [name for name in {**expected, **found} if expected.get(name) != found.get(name)]:
        first = wrong[0]
        raise CheckpointError(
            f"The weights are those of another model: {first!r:.100} must be {expected.get(first, 'left out')}, got "
            f"{found.get(first, 'none')} ({len(wrong)} such)."
        )
    network.load_state_dict(weights, assign=True)
    return network


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights and buffers of a network, each contiguous, on the processor."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}


def metadata(description: Description, weights: Weights) -> dict[str, str]:
    """Return what a file says of the network in it: its description, and the SHA-256 of that and of the weights."""
    table = description.model_dump(mode="json")
    return {KEY: json.dumps({"sha256": digest(table, weights), "network": table})}


def digest(table: Mapping[str, Any], weights: Weights) -> str:
    """Return the SHA-256 of a network, in hexadecimal: of what is said of it, and of its weights by name."""
    found = hashlib.sha256(json.dumps(table).encode())
    for name in sorted(weights):
        found.update(f"\n{name!r} {_kind(weights[name])}\n".encode())
        found.update(weights[name].reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def network_bytes(description: Description, weights: Weights) -> bytes:
    """Return a network as one file in the safetensors format."""
    return save(dict(weights), metadata=metadata(description, weights))


def read_network(path: Path) -> tuple[Description, dict[str, Tensor]]:
    """Read a network from one file. Nothing in it is executed, and no more memory is taken than it is long.

    Raises: CheckpointError for a file that is not what lrlab exports, or whose content was changed; StorageError.
    """
    try:
        with storage_errors(path), safe_open(path, framework="pt") as file:
            said = (file.metadata() or {}).get(KEY)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file, or damaged ({error}).") from error
    try:
        table, expected = _parse(said)
        if digest(table, weights) != expected:
            raise CheckpointError("it is damaged: its SHA-256 differs. Export or download it again.")
        return describe_network(table), weights
    except (CheckpointError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _parse(said: str | None) -> tuple[dict[str, Any], str]:
    """What a file says of its network, and the SHA-256.

    Raises: CheckpointError.
    """
    if said is None:
        raise CheckpointError("its metadata does not describe a network: lrlab export did not write it.")
    try:
        content = json.loads(said)
        table, expected = dict(content["network"]), str(content["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError("its description of the network is not in the format of lrlab export.") from error
    version = table.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"its format_version is {version!r:.20}, this lrlab reads {FORMAT_VERSION}. Use the lrlab that wrote it."
        )
    return table, expected


def _kind(tensor: Tensor) -> str:
    """Type and shape, in words."""
    return f"{str(tensor.dtype).removeprefix('torch.')} ({', '.join(map(str, tensor.shape))})"
