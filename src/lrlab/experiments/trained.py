"""A network that was trained, put to use: that of a run, or one that was exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from lrlab.config import parse_config
from lrlab.data import DataError, images_in, normalise, read_image
from lrlab.experiments.network_file import Description, build_network, describe_network, read_network
from lrlab.experiments.state import MODEL
from lrlab.runs import Run, RunError, read_run
from lrlab.runs.checkpoints import last_network
from lrlab.runs.storage import INFO
from lrlab.training import Engine, predict
from lrlab.training.checkpoint import CheckpointError, load_weights
from lrlab.training.engine import choose_device, without_tf32

BATCH = 256
"""Images that go through the network at once."""
MAX_FILE_PIXELS: Final = 80_000_000
"""Of one file: below the 89 million that Pillow itself warns of."""


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image file."""

    path: Path
    probabilities: dict[str, float]
    """Class -> probability, by softmax, the highest first."""
    changed: str
    """What had to be done to the image so that it fits the network; empty if nothing."""


class UnreadableError(DataError):
    """Some of the files that were to be predicted cannot be read, all of which it names."""

    def __init__(self, problems: Sequence[str], predictions: Sequence[Prediction]) -> None:
        super().__init__("\n".join(problems))
        self.predictions = predictions
        """Of the others."""


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network with what it must know of its images; made by `load_trained`."""

    model: nn.Module
    """On its device, in evaluation mode: normalised images (B, C, H, W) -> logits (B, number of classes)."""
    description: Description
    engine: Engine

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of the logits."""
        return tuple(self.description.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that it was trained on."""
        channels, height, width = self.description.image_shape
        return channels, height, width

    @property
    def mean(self) -> tuple[float, ...]:
        """Of each channel of the training images, in units of full scale."""
        return tuple(self.description.mean)

    @property
    def std(self) -> tuple[float, ...]:
        """Likewise."""
        return tuple(self.description.std)

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits of images, (N, number of classes), float32, on the processor.

        Args:
            images: (N, C, H, W), uint8, of the shape that it was trained on.
        Raises: ValueError for images of another shape or type; CheckpointError for weights that give no finite number.
        """
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"images must be uint8 of shape (N, {', '.join(map(str, self.image_shape))}), got {images.dtype} "
                f"{tuple(images.shape)}. predict_files reads files and fits them."
            )
        with without_tf32():
            logits = predict(self.model, self._batches(images), engine=self.engine).cpu()
        if not logits.isfinite().all():
            raise CheckpointError("The network gives logits that are not finite, so no class can be predicted.")
        return logits

    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probability of each class, by softmax of `logits`: (N, number of classes), on the processor."""
        return self.logits(images).softmax(1)

    def predict_files(self, paths: Sequence[Path | str] | Path | str) -> list[Prediction]:
        """Predict the classes of image files, in their order.

        An image of another size is cut to the network's proportions about its middle and resized; one in colour for a
        network of grey images is made grey. What was done to each stands in its prediction.

        Args:
            paths: one or several, PNG, JPEG, WebP or BMP; a folder stands for the images in it and in those within.
        Raises: UnreadableError that names all files which cannot be read and has the predictions of the others;
            DataError for a network of other images than files hold, or a folder without any.
        """
        if self.image_shape[0] not in (1, 3):
            raise DataError(
                f"The network takes images with {self.image_shape[0]} channels, which image files do not have. Use "
                "probabilities(images)."
            )
        if isinstance(paths, str | Path):  # a text would be taken letter by letter
            paths = [paths]
        files = [file for path in map(Path, paths) for file in (images_in(path) if path.is_dir() else [path])]
        fitted, problems = [], []
        for file in files:
            try:
                fitted.append((file, *_fitted(read_image(file, max_pixels=MAX_FILE_PIXELS), self.image_shape)))
            except DataError as error:
                problems.append(f"{file}: {error}")
        found = self.probabilities(torch.stack([pixels for _, pixels, _ in fitted])).tolist() if fitted else []
        predictions = [
            Prediction(file, dict(sorted(zip(self.classes, row, strict=True), key=lambda one: -one[1])), changed)
            for row, (file, _, changed) in zip(found, fitted, strict=True)
        ]
        if problems:
            raise UnreadableError(problems, predictions)
        return predictions

    def _batches(self, images: Tensor) -> Iterator[Tensor]:
        for batch in images.split(BATCH):
            yield normalise(batch.to(self.engine.device), mean=self.mean, std=self.std)


def load_trained(path: Path | str, *, device: Literal["auto", "cpu", "cuda"] = "auto") -> TrainedModel:
    """Load a trained network. No data set is needed.

    Of a run, it has the weights of the newest sound checkpoint, or their average where there is one.

    Args:
        path: of a run, of a folder that `lrlab export --format safetensors` made, or of the model.safetensors in it.
        device: auto, cpu or cuda.
    Raises: RunError if it is none of these, or a run without a checkpoint; DamagedError without a sound one;
        CheckpointError for a file that is not as it was exported; EngineError for a device that is not there.
    """
    path = Path(path)
    exported = path / MODEL if (path / MODEL).is_file() else path
    if (path / INFO).exists():
        description, network = _of_run(read_run(path))
    elif exported.is_file():
        description, weights = read_network(exported)
        network = build_network(description, weights)
    else:
        raise RunError(f"{path}: neither a run nor an exported network. Name a run, or a {MODEL} of lrlab export.")
    engine = Engine(torch.device(choose_device(device)), "fp32")  # of somebody's process, in which nothing else is set
    return TrainedModel(engine.place(network).eval(), description, engine)


def _of_run(run: Run) -> tuple[Description, nn.Module]:
    model = parse_config(dict(run.config)).model  # says so of a run that was made elsewhere
    checkpoint, data = last_network(run.directory), run.info["data"]
    facts = {name: data[name] for name in ("classes", "image_shape", "mean", "std")}
    description = describe_network({"model": model.model_dump(), "step": checkpoint.step, **facts})
    return description, build_network(description, load_weights(checkpoint.files[MODEL]))


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
