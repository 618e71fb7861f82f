"""What every source of images becomes: two splits of 8-bit images, their labels and their class names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor


class DataError(ValueError):
    """The images, labels or files that were asked for cannot be used as they are."""

    exit_code: ClassVar[int] = 3


@dataclass(frozen=True, eq=False)
class Split:
    """Images and labels of one split, in a fixed order."""

    images: Tensor
    """(N, C, H, W), uint8."""
    labels: Tensor
    """(N,), int64, each in [0, number of classes)."""

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set whole: held in memory as bytes, normalised only when a batch is made of it."""

    name: str
    classes: tuple[str, ...]
    """Class names; a label is an index into them."""
    train: Split
    test: Split
    mean: tuple[float, ...]
    """Mean of each channel over the training images, in units of full scale (0 to 1)."""
    std: tuple[float, ...]
    """Standard deviation of each channel over the training images, in the same units."""

    @property
    def num_channels(self) -> int:
        """Planes of one image: 1 for grey, 3 for colour."""
        return int(self.train.images.shape[1])

    def to(self, device: torch.device | str) -> ImageData:
        """The same data on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))
