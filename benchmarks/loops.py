"""The training loops that are compared. Each makes updates until its meter has seen enough.

All train the same network on the same images with the same batch size, and Adam at 1e-3 with weight decay 1e-5.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lrlab.config import parse_config
from lrlab.data import CIFAR10, ImageData, Split, image_data, load_cifar
from lrlab.experiments import Experiment, Update
from lrlab.models import resnet18
from measuring import clock

LR, WEIGHT_DECAY = 1e-3, 1e-5
FOREVER = 10**9
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Of CIFAR-10, as tutorials have them."""


class Enough(Exception):  # noqa: N818, since it is no error
    """The meter has what it wanted."""


class Meter:
    """Times a block of updates, after others that are thrown away and say how many the block must hold.

    Args:
        seconds: that the block should take.
        warmup: updates before it, >= 2; the second half of them is timed for the estimate.
        at_least: updates in the block.
    """

    def __init__(self, *, seconds: float, warmup: int, at_least: int, device: str) -> None:
        self._seconds, self._warmup, self._at_least, self._device = seconds, warmup, at_least, device
        self._num_updates = 0
        self._num_timed = FOREVER
        self._since = 0.0
        self.seconds_per_update = math.nan

    def update(self) -> None:
        """Count one update that was made. Raises Enough after the last."""
        self._num_updates += 1
        if self._num_updates == self._warmup // 2:
            self._since = clock(self._device)
        elif self._num_updates == self._warmup:
            now = clock(self._device)
            estimate = (now - self._since) / (self._warmup - self._warmup // 2)
            self._num_timed = max(self._at_least, math.ceil(self._seconds / estimate))
            self._since = now
        elif self._num_updates == self._warmup + self._num_timed:
            self.seconds_per_update = (clock(self._device) - self._since) / self._num_timed
            raise Enough


@dataclass(frozen=True)
class Setting:
    """What the loops have in common."""

    data: ImageData
    width: int
    batch_size: int
    device: str
    num_workers: int
    directory: Path
    """Empty; for whatever a loop writes."""
    meter: Meter
    quickest: str
    """Arithmetic in which the machine computes most quickly: bf16 where it has it, else fp32."""

    def model(self) -> nn.Module:
        """The network, with the same initial weights for all."""
        torch.manual_seed(0)
        return resnet18(num_classes=len(self.data.classes), in_channels=self.data.num_channels, width=self.width)


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images one by one, as torchvision's ToTensor and Normalize make them of (H, W, C) bytes."""

    def __init__(self, split: Split) -> None:
        self._images = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        self._labels = split.labels.tolist()
        channels = split.images.shape[1]
        self._mean, self._std = MEAN[:channels], STD[:channels]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = np.ascontiguousarray(self._images[index].transpose(2, 0, 1))
        image = torch.from_numpy(picture).to(torch.float32).div(255)
        mean = torch.as_tensor(self._mean).view(-1, 1, 1)
        std = torch.as_tensor(self._std).view(-1, 1, 1)
        return image.clone().sub_(mean).div_(std), self._labels[index]


def stock_loader(setting: Setting) -> DataLoader[tuple[Tensor, int]]:
    """PyTorch's loader over single images."""
    pictures = Pictures(setting.data.train)
    return DataLoader(pictures, setting.batch_size, shuffle=True, num_workers=setting.num_workers)


class MemoryLoader:
    """Whole batches from images in memory, shuffled: the quickest that a framework can be given."""

    def __init__(self, setting: Setting) -> None:
        self._data = setting.data.to(setting.device)
        self._batch_size = setting.batch_size
        # here, and not by `normalise`, which brings them to the device at every batch and waits for it
        both = torch.tensor([self._data.mean, self._data.std], device=setting.device)[:, :, None, None] * 255
        self._mean, self._std = both
        self.dataset = range(len(setting.data.train))  # a trainer may ask for its length

    def __len__(self) -> int:
        return len(self.dataset) // self._batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        split = self._data.train
        order = torch.randperm(len(split), device=split.labels.device)
        for indices in order.split(self._batch_size)[: len(self)]:
            images = split.images[indices].float().sub_(self._mean).div_(self._std)
            yield images.contiguous(memory_format=torch.channels_last), split.labels[indices]


def textbook(setting: Setting) -> None:
    """The article's loop and that of most tutorials: float32, PyTorch's defaults, the loss read at every update."""
    model = setting.model().to(setting.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    losses = []
    while True:
        for images, labels in stock_loader(setting):
            loss = F.cross_entropy(model(images.to(setting.device)), labels.to(setting.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            setting.meter.update()


def experiment_config(*, batch_size: int, width: int, device: str, precision: str, **changes: Any) -> dict[str, Any]:
    """A configuration of lrlab for the same task, without evaluations."""
    return {
        "batch_size": batch_size,
        "model": {"width": width},
        "optimizer": {"name": "adam", "lr": LR, "weight_decay": WEIGHT_DECAY},
        "evaluate": {"every": FOREVER},
        "steps": FOREVER,
        "engine": {"precision": precision},
        "device": device,
        **changes,
    }


def lrlab(setting: Setting, *, precision: str) -> None:
    """lrlab as users get it: a run with its directory, the gradients of every layer at every update.

    On a processor rows are written after about every 400 images, so that each measurement holds some of that; the
    default, 1,000 updates, costs less.
    """
    telemetry = {} if setting.device == "cuda" else {"flush_every": max(2, 400 // setting.batch_size)}
    config = experiment_config(
        batch_size=setting.batch_size,
        width=setting.width,
        device=setting.device,
        precision=precision,
        telemetry=telemetry,
    )
    events = Experiment(parse_config(config), data=setting.data).run(setting.directory / "run")
    with contextlib.closing(events):
        for event in events:
            if isinstance(event, Update):
                setting.meter.update()


def load_data(directory: Path | None, *, quick: bool) -> ImageData:
    """CIFAR-10 from a folder; without one, noise of its shape, which takes as long. Quick: 512 images of 8x8 noise."""
    if directory is not None:
        return load_cifar(CIFAR10, directory)
    generator = torch.Generator().manual_seed(0)
    num_images, side = (512, 8) if quick else (50_000, 32)

    def noise(number: int) -> Split:
        images = torch.randint(0, 256, (number, 3, side, side), dtype=torch.uint8, generator=generator)
        return Split(images, torch.arange(number) % 10)

    return image_data("noise", classes=[str(label) for label in range(10)], train=noise(num_images), test=noise(100))
