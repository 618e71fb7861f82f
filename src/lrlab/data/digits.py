"""Handwritten digits that come with scikit-learn: the data set that needs no download."""

from __future__ import annotations

import numpy as np
import torch

from lrlab.data.images import ImageData, Split, image_data
from lrlab.data.randomness import stratified_split

_LARGEST = 16  # grey values are counts of black pixels in 4x4 blocks


def load_digits_data(test_fraction: float = 0.2) -> ImageData:
    """The 1,797 grey 8x8 digits, scaled to bytes; the same test set whatever the run's seed.

    Args:
        test_fraction: share of each class kept for testing, in (0, 1).
    Raises: ValueError if the fraction is out of range.
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).
    """
    from sklearn.datasets import load_digits  # here, since importing it takes seconds

    raw = load_digits()
    pixels = np.rint(raw.images * (255 / _LARGEST)).astype(np.uint8)
    images = torch.from_numpy(pixels[:, None])  # (N, 1, 8, 8)
    labels = torch.from_numpy(raw.target.astype(np.int64))
    train, test = (
        Split(images[indices], labels[indices]) for indices in stratified_split(labels, test_fraction=test_fraction)
    )
    classes = [str(digit) for digit in raw.target_names]
    return image_data("digits", classes=classes, train=train, test=test)
