"""A model on a whole test set: logits first, then everything that is computed from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrlab.training.engine import Engine


@dataclass(frozen=True)
class Evaluation:
    """What a model does on a labelled set; classes that do not occur in it have None."""

    loss: float
    """Mean cross-entropy."""
    accuracy: float
    """Share of the examples whose largest logit is their label's."""
    class_accuracy: list[float | None]
    """The same for the examples of each class."""
    confusion: list[list[int]]
    """Counts: row = label, column = prediction."""
    mean_probabilities: list[list[float] | None]
    """Row = label: predicted probabilities (softmax of each example's logits), averaged over its examples."""


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, engine: Engine, num_classes: int
) -> Evaluation:
    """Evaluate a model in evaluation mode, and leave each of its modules in the mode in which it was.

    Args:
        model: placed by the engine.
        batches: (images (B, C, H, W), labels (B,)) that hold every example once.
        num_classes: rows and columns of the matrices.
    """
    were_training = [module for module in model.modules() if module.training]
    model.eval()
    device = engine.device
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    confusion = torch.zeros(num_classes * num_classes, dtype=torch.int64, device=device)
    probabilities = torch.zeros(num_classes, num_classes, dtype=torch.float64, device=device)
    for images, labels in batches:
        logits = engine.logits(model, images)  # (B, num_classes)
        loss_sum += F.cross_entropy(logits, labels, reduction="sum")
        confusion += torch.bincount(labels * num_classes + logits.argmax(1), minlength=num_classes**2)
        probabilities.index_add_(0, labels, logits.softmax(1).double())
    for module in were_training:
        module.training = True
    return _summary(loss_sum, confusion.view(num_classes, num_classes), probabilities)


def _summary(loss_sum: Tensor, confusion: Tensor, probabilities: Tensor) -> Evaluation:
    counts = confusion.sum(1).tolist()  # here and below the device is waited for
    correct = confusion.diagonal().tolist()
    return Evaluation(
        loss=loss_sum.item() / sum(counts),
        accuracy=sum(correct) / sum(counts),
        class_accuracy=[hits / count if count else None for hits, count in zip(correct, counts, strict=True)],
        confusion=confusion.tolist(),
        mean_probabilities=[
            [value / count for value in row] if count else None
            for row, count in zip(probabilities.tolist(), counts, strict=True)
        ],
    )
