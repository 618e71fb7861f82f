"""The network that a run ended with, put to use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from lrlab.config import parse_config
from lrlab.data import DataError, images_in, normalise, read_image
from lrlab.experiments.build import build_model
from lrlab.experiments.state import MODEL
from lrlab.runs import read_run
from lrlab.runs.checkpoints import last_network
from lrlab.training import Engine, choose_engine, predict
from lrlab.training.checkpoint import load_model

BATCH = 256
"""Images that go through the network at once."""


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image file."""

    path: Path
    probabilities: dict[str, float]
    """Class -> probability, by softmax, the highest first."""
    changed: str
    """What had to be done to the image so that it fits the network; empty if nothing."""


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network with what it must know of its images; made by `load_trained`."""

    model: nn.Module
    """On its device, in evaluation mode: normalised images (B, C, H, W) -> logits (B, number of classes)."""
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    """Channels, height and width of the images that it was trained on."""
    mean: tuple[float, ...]
    """Of each channel of the training images, in units of full scale."""
    std: tuple[float, ...]
    engine: Engine

    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probability of each class, by softmax of the logits: (N, number of classes), on the processor.

        Args:
            images: (N, C, H, W), uint8, of the shape that it was trained on.
        Raises: ValueError for images of another shape or type.
        """
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"images must be uint8 of shape (N, {', '.join(map(str, self.image_shape))}), got {images.dtype} "
                f"{tuple(images.shape)}. predict_files reads files and fits them."
            )
        logits = predict(self.model, self._batches(images), engine=self.engine)
        return logits.softmax(1).cpu()

    def predict_files(self, paths: Sequence[Path]) -> list[Prediction]:
        """Predict the classes of image files, in their order.

        An image of another size is cut to the network's proportions about its middle and resized; one in colour for a
        network of grey images is made grey. What was done to each stands in its prediction.

        Args:
            paths: PNG, JPEG, WebP or BMP; a folder stands for the images in it.
        Raises: DataError that names all files which cannot be read.
        """
        files = [file for path in paths for file in (images_in(path) if path.is_dir() else [path])]
        fitted, problems = [], []
        for file in files:
            try:
                fitted.append(_fitted(read_image(file), self.image_shape))
            except DataError as error:
                problems.append(f"{file}: {error}")
        if problems:
            raise DataError("\n".join(problems))
        found = self.probabilities(torch.stack([pixels for pixels, _ in fitted])).tolist() if fitted else []
        return [
            Prediction(file, dict(sorted(zip(self.classes, row, strict=True), key=lambda one: -one[1])), changed)
            for file, row, (_, changed) in zip(files, found, fitted, strict=True)
        ]

    def _batches(self, images: Tensor) -> Iterator[Tensor]:
        for batch in images.split(BATCH):
            yield normalise(batch.to(self.engine.device), mean=self.mean, std=self.std)


def load_trained(directory: Path | str, *, device: Literal["auto", "cpu", "cuda"] = "auto") -> TrainedModel:
    """Load the network of a run: the weights of its newest sound checkpoint, or their average where there is one.

    No data set is needed.

    Args:
        directory: of the run.
        device: auto, cpu or cuda.
    Raises: RunError without a checkpoint, DamagedError without a sound one, EngineError for a device that is not there.
    """
    run = read_run(Path(directory))
    checkpoint = last_network(run.directory)
    config, data = parse_config(dict(run.config)), run.info["data"]
    engine = choose_engine(device=device)
    channels, height, width = data["image_shape"]
    model = build_model(config.model, num_classes=len(data["classes"]), in_channels=channels, seed=config.seed)
    load_model(model, checkpoint.files[MODEL])
    return TrainedModel(
        engine.place(model).eval(),
        tuple(data["classes"]),
        (channels, height, width),
        tuple(data["mean"]),
        tuple(data["std"]),
        engine,
    )


def _fitted(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], shape: tuple[int, int, int]) -> tuple[Tensor, str]:
    """The pixels of one image as the network takes them, (C, H, W), and what was done to them."""
    channels, height, width = shape
    image, changes = Image.fromarray(pixels), []
    if image.size != (width, height):
        changes.append(f"resized from {image.width}x{image.height}")
        image = ImageOps.fit(image, (width, height), method=Image.Resampling.BICUBIC)
    if channels == 1 and image.mode != "L":
        changes.append("made grey")
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    planes = array.reshape(height, width, channels).transpose(2, 0, 1)
    return torch.from_numpy(planes.copy()), ", ".join(changes)  # Pillow's own memory may not be written to
