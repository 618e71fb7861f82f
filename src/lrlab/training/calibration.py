"""Whether the probabilities that a network predicts are the shares in which it is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

NUM_BINS: Final = 15
"""As in the paper."""


@dataclass(frozen=True)
class Bin:
    """The examples whose confidence lies in an interval: above `low`, up to `high`."""

    low: float
    high: float
    count: int
    confidence: float | None
    """Mean of the largest probability; None in an empty bin."""
    accuracy: float | None
    """Share of them that are right; None in an empty bin."""


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy are apart."""

    ece: float
    """Expected calibration error: sum over bins of (count / N) |accuracy - confidence|."""
    confidence: float
    """Mean of the largest probability over all examples."""
    bins: list[Bin]


def calibrate(logits: Tensor, labels: Tensor) -> Calibration:
    """Return the calibration of predictions, in 15 bins of equal width.

    Args:
        logits: (N, num_classes).
        labels: (N,), int64.
    Source: Guo et al., 2017, arXiv:1706.04599.
    """
    confidences, predictions = logits.double().softmax(1).max(1)
    is_right = (predictions == labels).double()
    edges = torch.linspace(0, 1, NUM_BINS + 1, dtype=torch.float64, device=logits.device)
    places = (torch.bucketize(confidences, edges) - 1).clamp(0, NUM_BINS - 1)  # bucketize is open below, closed above
    counts = torch.bincount(places, minlength=NUM_BINS).tolist()
    sums = [torch.bincount(places, weights, NUM_BINS).tolist() for weights in (confidences, is_right)]
    bins = [
        Bin(low, high, count, *((one / count, other / count) if count else (None, None)))
        for low, high, count, one, other in zip(edges[:-1].tolist(), edges[1:].tolist(), counts, *sums, strict=True)
    ]
    gaps = [abs(right - confident) for confident, right in zip(*sums, strict=True)]
    return Calibration(sum(gaps) / len(labels), float(confidences.mean()), bins)
