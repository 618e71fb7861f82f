"""Random numbers that are a function of where they are used, so that there is no random state to save or lose."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_SPLIT_SEED = 0  # never the run's: the test set must be the same for every run that is compared


class Purpose(IntEnum):
    """What a stream of random numbers is for. The numbers are part of every result: never change one."""

    ORDER = 1
    FLIP = 2
    ROW = 3
    COLUMN = 4
    SPLIT = 5
    CUTOUT_ROW = 6
    CUTOUT_COLUMN = 7


def random_words(num_words: int, *, seed: int, epoch: int, purpose: Purpose) -> npt.NDArray[np.uint64]:
    """Independent uniform 64-bit words, (num_words,): word i is a function of (seed, epoch, purpose, i) alone.

    Raw words of a named generator, since NumPy keeps those the same from version to version, which it does not
    promise for what `Generator` makes of them.
    Source: NumPy's compatibility policy, NEP 19.

    Raises: ValueError unless 0 <= seed < 2**32 (beyond, two triples could share one stream) and epoch >= 0.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), got {seed}.")
    if not 0 <= epoch < 2**32:
        raise ValueError(f"epoch must be in [0, 2**32), got {epoch}.")
    words: npt.NDArray[np.uint64] = np.random.PCG64((seed, epoch, int(purpose))).random_raw(num_words)
    return words


def order(seed: int, epoch: int, num_examples: int) -> Tensor:
    """The order in which an epoch visits its examples: a permutation of 0 to num_examples - 1, (N,), int64."""
    words = random_words(num_examples, seed=seed, epoch=epoch, purpose=Purpose.ORDER)
    return torch.from_numpy(np.argsort(words, kind="stable"))


def stratified_split(labels: Tensor, *, test_fraction: float) -> tuple[Tensor, Tensor]:
    """Training and test indices, each ascending: of every class, the same fraction is for testing.

    Each class gives `round(test_fraction * size)` test examples, but at least one, and keeps at least one for
    training. The draw is fixed: it depends on the labels and the fraction, never on a run's seed.

    Args:
        labels: (N,), int64, at least two of each that occurs.
        test_fraction: share of each class, in (0, 1).
    Raises: ValueError if a class has a single example, or the fraction is out of range.
    """
    check_fraction(test_fraction, key="data.test_fraction")
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(labels).tolist():
        members = torch.nonzero(labels == label).flatten()
        if len(members) < 2:
            raise ValueError(f"label {label} has only one example, which cannot be in both splits.")
        num_test = min(max(round(test_fraction * len(members)), 1), len(members) - 1)
        # One stream a class, so that a new image in one class leaves the test images of the others alone.
        words = random_words(len(members), seed=_SPLIT_SEED, epoch=label, purpose=Purpose.SPLIT)
        is_test[members[torch.from_numpy(np.argsort(words, kind="stable")[:num_test])]] = True
    return torch.nonzero(~is_test).flatten(), torch.nonzero(is_test).flatten()


def check_fraction(fraction: float, *, key: str) -> None:
    """Raises ValueError, with the setting that it comes from, unless a fraction lies strictly between 0 and 1."""
    if not 0 < fraction < 1:
        raise ValueError(
            f"{key} must be between 0 and 1, both excluded, got {fraction}. Pass for example --set {key}=0.2."
        )
