"""Handwritten digits that come with scikit-learn: the data set that needs no download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

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
    table = np.loadtxt(_file(), delimiter=",", dtype=np.int64)  # 64 grey values and a label in each line
    pixels = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / _LARGEST)).astype(np.uint8)
    images = torch.from_numpy(pixels[:, None])  # (N, 1, 8, 8)
    labels = torch.from_numpy(table[:, -1].copy())
    train, test = (
        Split(images[indices], labels[indices]) for indices in stratified_split(labels, test_fraction=test_fraction)
    )
    return image_data("digits", classes=[str(digit) for digit in range(10)], train=train, test=test)


def _file() -> Path:
    """The table that scikit-learn's own loader reads; to import that takes a second, of which this needs nothing."""
    found = find_spec("sklearn")
    assert found is not None and found.submodule_search_locations is not None, "lrlab depends on scikit-learn"
    return Path(found.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
