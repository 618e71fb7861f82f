"""Batches as a function of the step: gathered, augmented and normalised where the data lives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lrlab.data.augment import Augmentation, Draws, augmented, blank_, draw, draw_centres
from lrlab.data.images import ImageData, Split
from lrlab.data.randomness import order

NO_AUGMENTATION = Augmentation()


@dataclass(frozen=True, eq=False)
class Batch:
    """What one update learns from."""

    step: int
    """The update, from 1."""
    epoch: int
    """The pass over the data, from 1."""
    images: Tensor
    """(B, C, H, W), float32, normalised."""
    labels: Tensor
    """(B,), int64."""


class Batches:
    """The training batches of a run: `batch(step)` is a pure function of the step.

    Every epoch visits the examples in an order of its own, a function of (seed, epoch). The examples that do not
    fill a last batch are left out of that epoch, so that shapes never change and batch normalisation never
    sees a remainder of one image. What is kept between calls is the current epoch's order and draws: a cache,
    which a resumed run rebuilds.

    Args:
        data: on the device where training happens.
        batch_size: examples a batch, from 1 to the number of training images.
        seed: in [0, 2**32).
        augmentation: how images are varied.
    Raises: ValueError, as for any other setting of a run that cannot be met.
    """

    def __init__(
        self, data: ImageData, *, batch_size: int, seed: int, augmentation: Augmentation = NO_AUGMENTATION
    ) -> None:
        images = data.train.images
        _check_batch_size(batch_size)
        if batch_size > len(images):
            raise ValueError(
                f"batch_size must be at most the number of training images, got {batch_size}, and {data.name} has "
                f"{len(images)}. Pass --batch-size {len(images)} or less."
            )
        side = min(images.shape[2:])
        if augmentation.crop_padding >= side:
            raise ValueError(
                f"crop_padding must be less than the images' {side} pixels, got {augmentation.crop_padding}."
            )
        if augmentation.cutout >= side:
            raise ValueError(
                f"cutout must be less than the images' {side} pixels, got {augmentation.cutout}: "
                "whole images would be blank."
            )
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation
        self.steps_per_epoch = len(images) // batch_size
        self._split = data.train
        self._scale = _scale(data.mean, data.std, images.device)
        self._epoch = 0
        self._order: Tensor
        self._draws: Draws
        self._centres: Tensor
        self._enter(1)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def batch(self, step: int, *, part: int = 0, num_parts: int = 1) -> Batch:
        """The batch of one update, or one of the equal parts of it, on the data's device; no sync.

        Raises: ValueError if step < 1, or the batch has no such part.
        """
        if step < 1:
            raise ValueError(f"step counts updates from 1, got {step}.")
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        self._enter(epoch + 1)
        size, remainder = divmod(self.batch_size, num_parts)
        if remainder or not 0 <= part < num_parts:
            raise ValueError(
                f"A batch of {self.batch_size} images has no part {part} of {num_parts} equal ones, counted from 0."
            )
        start = position * self.batch_size + part * size
        indices = self._order[start : start + size]
        if self.augmentation == NO_AUGMENTATION:
            images = self._split.images.index_select(0, indices)
        else:
            images = augmented(self._split.images, indices, self._draws)
        labels = self._split.labels.index_select(0, indices)
        images = _normalised(images, *self._scale)
        if self.augmentation.cutout:
            blank_(images, self._centres[indices], side=self.augmentation.cutout)
        return Batch(step, epoch + 1, images, labels)

    def _enter(self, epoch: int) -> None:
        """Makes `epoch` the current one, of which order and draws are at hand."""
        if epoch == self._epoch:
            return
        num_examples, device = len(self._split), self._split.images.device
        self._order = order(self.seed, epoch, num_examples).to(device)
        if self.augmentation != NO_AUGMENTATION:
            draws = draw(self.augmentation, seed=self.seed, epoch=epoch, num_examples=num_examples)
            self._draws = draws.to(device)
        if self.augmentation.cutout:
            height, width = self._split.images.shape[2:]
            centres = draw_centres(seed=self.seed, epoch=epoch, num_examples=num_examples, height=height, width=width)
            self._centres = centres.to(device)
        self._epoch = epoch


def evaluation_batches(
    split: Split, *, mean: Sequence[float], std: Sequence[float], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images and their labels, every example once and in order; the last batch may be smaller.

    Args:
        split: on the device where evaluation happens.
        mean: of each channel, in units of full scale: the training split's, also for the test split.
        std: likewise.
        batch_size: at least 1.
    """
    _check_batch_size(batch_size)
    return _in_order(split, _scale(mean, std, split.images.device), batch_size)


def _in_order(split: Split, scale: tuple[Tensor, Tensor], batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        yield _normalised(split.images[part], *scale), split.labels[part]


def normalise(images: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images / 255 - mean) / std for each channel: what the model sees.

    Args:
        images: (B, C, H, W), uint8.
        mean: of each of C channels, in units of full scale (0 to 1).
        std: likewise, > 0.
    Returns: (B, C, H, W), float32, on the images' device.
    """
    return _normalised(images, *_scale(mean, std, images.device))


def _scale(mean: Sequence[float], std: Sequence[float], device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel in units of one byte, (C, 1, 1) each."""
    both = (torch.tensor([mean, std], dtype=torch.float64) * 255).float().to(device)
    return both[0, :, None, None], both[1, :, None, None]


def _normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return images.to(torch.float32).sub_(mean).div_(std)  # to() copies, since images are bytes


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
