"""Random crops, flips and blanks of a whole batch at once, drawn by counting instead of from a random state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lrlab.data.randomness import Purpose, random_words


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied from epoch to epoch; as it stands, not at all."""

    flip: bool = False
    """Mirror each image left to right with probability one half."""
    crop_padding: int = 0
    """Shift each image by up to this many pixels each way; what comes into view is reflected at the border."""
    cutout: int = 0
    """Blank a square of this side, in pixels, at a random place of each image."""

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise ValueError(f"crop_padding must be >= 0 pixels, got {self.crop_padding}.")
        if self.cutout < 0:
            raise ValueError(f"cutout must be >= 0 pixels, got {self.cutout}.")


@dataclass(frozen=True, eq=False)
class Draws:
    """What one epoch does to each example of the data set."""

    down: Tensor
    """(N,), int64, in [-crop_padding, crop_padding]: the source row that the crop's first row shows."""
    right: Tensor
    """(N,), int64, likewise: the source column that the crop's first column shows."""
    flip: Tensor
    """(N,), bool: mirror the crop."""

    def to(self, device: torch.device) -> Draws:
        """The same draws on another device."""
        return Draws(self.down.to(device), self.right.to(device), self.flip.to(device))


def draw(augmentation: Augmentation, *, seed: int, epoch: int, num_examples: int) -> Draws:
    """The draws of one epoch: example i's are a function of (seed, epoch, i), and of nothing else.

    They are made for the whole data set, so batch size, ranks and the order of visits cannot touch them.
    """
    padding = augmentation.crop_padding

    def words(purpose: Purpose) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
        return random_words(num_examples, seed=seed, epoch=epoch, purpose=purpose)

    def shift(purpose: Purpose) -> Tensor:
        return torch.from_numpy((words(purpose) % (2 * padding + 1)).astype(np.int64) - padding)

    flip = torch.from_numpy(words(Purpose.FLIP) >> 63 == 1)  # the top bit
    return Draws(shift(Purpose.ROW), shift(Purpose.COLUMN), flip & augmentation.flip)


def augmented(images: Tensor, indices: Tensor, draws: Draws) -> Tensor:
    """The images at `indices`, each padded by reflection, cropped to its own size and perhaps mirrored.

    The padded images never exist: every pixel of the batch is looked up where it comes from.

    Args:
        images: the data set, (N, C, H, W), any type, contiguous.
        indices: examples of the batch, (B,), int64.
        draws: of the whole data set; shifts smaller than the image.
    Returns: (B, C, H, W), on the images' device; no sync.
    """
    num_channels, height, width = images.shape[1:]
    device = images.device
    rows = _reflected(draws.down[indices][:, None] + torch.arange(height, device=device), height)  # (B, H)
    columns = _reflected(draws.right[indices][:, None] + torch.arange(width, device=device), width)  # (B, W)
    columns = torch.where(draws.flip[indices][:, None], columns.flip(1), columns)
    planes = indices[:, None] * num_channels + torch.arange(num_channels, device=device)  # (B, C)
    lines = planes[:, :, None] * height + rows[:, None, :]  # (B, C, H), into all lines of the data set
    # Lines first, then pixels within them: six times as fast as one advanced index over four dimensions.
    batch = images.view(-1, width).index_select(0, lines.flatten()).view(*lines.shape, width)
    return batch.gather(3, columns[:, None, None, :].expand_as(batch))


def draw_centres(*, seed: int, epoch: int, num_examples: int, height: int, width: int) -> Tensor:
    """The pixel of each example that one epoch's blank square is centred on, (N, 2): row and column, int64.

    Every pixel is as likely as any other, and example i's is a function of (seed, epoch, i) and of the image's size.
    """
    places = [
        (random_words(num_examples, seed=seed, epoch=epoch, purpose=purpose) % size).astype(np.int64)
        for purpose, size in ((Purpose.CUTOUT_ROW, height), (Purpose.CUTOUT_COLUMN, width))
    ]
    return torch.from_numpy(np.stack(places, axis=1))


def blank_(images: Tensor, centres: Tensor, *, side: int) -> Tensor:
    """Set a square of each image to zero, in place: to the training mean, where images are normalised.

    The square spans `side` pixels each way from `side // 2` before its centre, and is clipped at the border.

    Args:
        images: the batch, (B, C, H, W).
        centres: row and column of each square's centre, (B, 2), int64.
        side: of the squares, in pixels.
    Returns: the images; no sync.
    Source: DeVries & Taylor, 2017, arXiv:1708.04552.
    """

    def within(centre: Tensor, size: int) -> Tensor:
        offset = torch.arange(size, device=images.device) - (centre[:, None] - side // 2)
        return (offset >= 0) & (offset < side)

    rows, columns = within(centres[:, 0], images.shape[2]), within(centres[:, 1], images.shape[3])
    return images.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)  # (B, 1, H, W)


def _reflected(position: Tensor, size: int) -> Tensor:
    """Positions beyond 0 and size - 1 folded back inside, the border itself not repeated."""
    last = size - 1
    return last - (last - position.abs()).abs()
