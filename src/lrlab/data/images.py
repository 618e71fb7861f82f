"""What every source of images becomes: two splits of 8-bit images, their labels and their class names."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lrlab.data.randomness import check_fraction, stratified_split

SplitName = Literal["test", "validation"]

_FULL_SCALE = 255


class DataError(ValueError):
    """The images, labels or files that were asked for cannot be used as they are."""

    exit_code: ClassVar[int] = 3


@contextmanager
def reading(name: str) -> Iterator[None]:
    """What the operating system refuses while `name` is read becomes a DataError: permissions, a failing disk."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error}.") from error


@dataclass(frozen=True, eq=False)
class Split:
    """Images and labels of one split, in a fixed order."""

    images: Tensor
    """(N, C, H, W), uint8, contiguous."""
    labels: Tensor
    """(N,), int64, each in [0, number of classes)."""

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """The same split on another device."""
        images, labels = self.images.to(device), self.labels.to(device)
        if images is self.images and labels is self.labels:
            return self
        moved = Split(images, labels)
        vars(moved)["digest"] = self.digest  # here once, and not from a GPU's memory in each run of a study
        return moved

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape, pixels and labels, in hexadecimal: of two splits that differ in any of them it differs."""
        found = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for tensor in (self.images, self.labels):
            found.update(tensor.cpu().contiguous().numpy().data)
        return found.hexdigest()


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
    validation: Split | None = None
    """Training images that were set aside, to choose settings by; see `set_aside`."""

    @property
    def evaluated(self) -> tuple[SplitName, Split]:
        """The split that evaluations are of, and its name: the validation images where there are some."""
        return ("test", self.test) if self.validation is None else ("validation", self.validation)

    @property
    def num_channels(self) -> int:
        """Planes of one image: 1 for grey, 3 for colour."""
        return int(self.train.images.shape[1])

    def to(self, device: torch.device | str) -> ImageData:
        """The same data on another device."""
        validation = self.validation.to(device) if self.validation else None
        return replace(self, train=self.train.to(device), test=self.test.to(device), validation=validation)


def image_data(name: str, *, classes: Sequence[str], train: Split, test: Split) -> ImageData:
    """A data set that training can rely on: checked whole, once, with its mean and deviation measured.

    Args:
        name: what messages and records call it.
        classes: at least two distinct names; label k is `classes[k]`.
        train: every class must occur in it.
        test: not empty; a class may be absent from it.
    Raises: DataError that names the classes, labels, shapes or channel at fault.
    """
    check_classes(name, classes)
    for label, split in (("train", train), ("test", test)):
        _check_split(f"{name} {label}", split, num_classes=len(classes))
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = " and ".join(_shape(split) for split in (train, test))
        raise DataError(f"{name}: training and test images must have the same shape, got {shapes}.")
    counts = class_counts(train, num_classes=len(classes))
    if empty := [repr(one) for one, count in zip(classes, counts, strict=True) if count == 0]:
        raise DataError(
            f"{name}: every class needs training images; these have none: {', '.join(empty)}. "
            "Add some, or leave the class out."
        )
    mean, std = channel_statistics(name, train.images)
    return ImageData(name, tuple(classes), train, test, mean, std)


def set_aside(data: ImageData, fraction: float) -> ImageData:
    """The same data with a share of each class of the training images set aside, for validation.

    Which ones depends on the labels and the fraction, never on a run's seed. Mean and deviation are those of the
    images that are left.

    Args:
        data: without a validation split.
        fraction: in (0, 1).
    Raises: DataError if a class has a single training image, ValueError if the fraction is out of range.
    """
    check_fraction(fraction, key="data.validation_fraction")
    check_can_be_split(data.name, data.train.labels, classes=data.classes, key="data.validation_fraction")
    train, validation = (
        Split(data.train.images[indices].contiguous(), data.train.labels[indices])
        for indices in stratified_split(data.train.labels, test_fraction=fraction)
    )
    left = image_data(data.name, classes=data.classes, train=train, test=data.test)
    return replace(left, validation=validation)


def check_classes(name: str, classes: Sequence[str]) -> None:
    """Raises DataError unless there are at least two classes, with names that are distinct, printable text."""
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "none"
        raise DataError(f"{name}: a classifier needs at least two classes, got {found}.")
    if repeated := sorted(repr(one) for one, count in Counter(classes).items() if count > 1):
        raise DataError(f"{name}: class names must be unique; these are repeated: {', '.join(repeated)}.")
    if odd := [ascii(one) for one in classes if not one or not one.isprintable()]:
        raise DataError(f"{name}: class names must be printable text; rename {', '.join(odd)}.")


def check_can_be_split(name: str, labels: Tensor, *, classes: Sequence[str], key: str) -> None:
    """Raises DataError, with the setting that asks for the split, if there is a single image of a class."""
    counts = torch.bincount(labels.cpu(), minlength=len(classes)).tolist()
    if single := [repr(one) for one, count in zip(classes, counts, strict=True) if count == 1]:
        raise DataError(
            f"{name}: {key} splits every class, which takes at least two images; these have only one: "
            f"{', '.join(single)}. Add some, or leave the class out."
        )


def _check_split(where: str, split: Split, *, num_classes: int) -> None:
    images, labels = split.images, split.labels
    if images.dtype != torch.uint8 or images.dim() != 4 or not images.is_contiguous():
        raise DataError(
            f"{where}: images must be a contiguous (N, C, H, W) tensor of uint8, "
            f"got {tuple(images.shape)} of {images.dtype}."
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise DataError(
            f"{where}: labels must be {len(images)} of int64, one an image, "
            f"got {tuple(labels.shape)} of {labels.dtype}."
        )
    if images.numel() == 0:
        raise DataError(f"{where}: there are no images.")
    wrong = torch.nonzero((labels < 0) | (labels >= num_classes)).flatten()
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{where}: labels must be 0 to {num_classes - 1}, got {int(labels[first])} at image {first} "
            f"(counted from 0; {len(wrong)} such labels)."
        )


def _shape(split: Split) -> str:
    return "x".join(str(size) for size in split.images.shape[1:])


def class_counts(split: Split, *, num_classes: int) -> list[int]:
    """How many images of each class the split holds."""
    counts: list[int] = torch.bincount(split.labels.cpu(), minlength=num_classes).tolist()
    return counts


def channel_statistics(name: str, images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and (population) standard deviation of each channel of `images`, in units of full scale.

    Counted, not accumulated: from each channel's histogram of 256 values, in whole numbers, so the result does
    not depend on the order, the thread count or the number of images.

    Raises: DataError for a channel that holds one value only, which nothing can normalise.
    """
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts: list[int] = torch.bincount(images[:, channel].flatten(), minlength=256).tolist()
        number = sum(counts)
        total = sum(value * count for value, count in enumerate(counts))
        total_of_squares = sum(value * value * count for value, count in enumerate(counts))
        variance = number * total_of_squares - total * total  # times number squared
        if variance == 0:
            raise DataError(
                f"{name}: channel {channel} is {total // number} everywhere in all training images, so it "
                "cannot be normalised. Leave it out, for example by saving the images as grey."
            )
        means.append(total / (number * _FULL_SCALE))
        stds.append(math.sqrt(variance) / (number * _FULL_SCALE))
    return tuple(means), tuple(stds)


def summary(data: ImageData) -> str:
    """What the data set holds, a line each: classes and shape, images per class of each split, mean and deviation."""
    lines = [f"{data.name}: {len(data.classes)} classes, images {_shape(data.train)} (channels x height x width)"]
    for label, split in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        if split is None:
            continue
        counts = class_counts(split, num_classes=len(data.classes))
        if len(set(counts)) == 1:
            detail = f"{counts[0]:,} of each class"
        else:
            detail = ", ".join(f"{one}: {count:,}" for one, count in zip(data.classes, counts, strict=True))
        lines.append(f"{label}: {len(split):,} images, {detail}")
    means = " ".join(f"{value:.4f}" for value in data.mean)
    stds = " ".join(f"{value:.4f}" for value in data.std)
    lines.append(f"mean of each channel: {means}; standard deviation: {stds}")
    return "\n".join(lines)
