"""A model on a whole test set: logits first, then everything that is computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from lrlab.training.distributed import ALONE, Ranks
from lrlab.training.engine import Engine


@dataclass(frozen=True)
class Score:
    """How good some logits are."""

    loss: float
    """Mean cross-entropy, without label smoothing."""
    accuracy: float
    """Share of the examples whose largest logit is their label's."""


@dataclass(frozen=True)
class Evaluation(Score):
    """What a model does on a labelled set; classes that do not occur in it have None."""

    class_accuracy: list[float | None]
    """The accuracy on the examples of each class."""
    confusion: list[list[int]]
    """Counts: row = label, column = prediction."""
    mean_probabilities: list[list[float] | None]
    """Row = label: predicted probabilities (softmax of each example's logits), averaged over its examples."""
    mirror: Score | None = None
    """With the logits averaged over each image and its mirror image, where that was asked for."""


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    engine: Engine,
    num_classes: int,
    mirror: bool = False,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Evaluate a model in evaluation mode, and leave each of its modules in the mode in which it was.

    Args:
        model: placed by the engine.
        batches: (images (B, C, H, W), labels (B,)) that hold every example once; several ranks share each out.
        num_classes: rows and columns of the matrices.
        mirror: also average the logits over each image and its mirror image, left to right; twice the work.
        ranks: that hold the same model; all get the same result.
    """
    plain = _Sums(num_classes, device=engine.device)
    mirrored = _Sums(num_classes, device=engine.device)
    with _evaluation_mode(model):
        for whole, all_labels in batches:
            images, labels = whole[ranks.rank :: ranks.size], all_labels[ranks.rank :: ranks.size]
            if not len(labels):
                continue
            logits = engine.logits(model, images)  # (B, num_classes)
            plain.add(logits, labels)
            if mirror:
                mirrored.add((logits + engine.logits(model, images.flip(3))) / 2, labels)
    plain.gather(ranks)
    if mirror:
        mirrored.gather(ranks)
    return plain.evaluation(mirror=mirrored.score() if mirror else None)


@torch.no_grad()
def predict(model: nn.Module, batches: Iterable[Tensor], *, engine: Engine) -> Tensor:
    """Return a model's logits for images, (N, num_classes), in evaluation mode; its modes are as before afterwards.

    Args:
        model: placed by the engine.
        batches: (B, C, H, W) each.
        engine: how to compute.
    """
    with _evaluation_mode(model):
        return torch.cat([engine.logits(model, images) for images in batches])


@torch.no_grad()
def features(model: nn.Module, batches: Iterable[Tensor], *, engine: Engine) -> Tensor:
    """Return what a model hands to its last linear layer, (N, D), for images as `predict` takes them.

    Raises: ValueError if it has no linear layer.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError("features: they are what the last nn.Linear is given, and the model has none.")
    seen: list[Tensor] = []
    handle = linear[-1].register_forward_pre_hook(lambda module, args: seen.append(args[0].float().flatten(1)))
    try:
        predict(model, batches, engine=engine)
    finally:
        handle.remove()
    return torch.cat(seen)


@torch.no_grad()
def estimate_statistics(model: nn.Module, batches: Iterable[Tensor], *, engine: Engine) -> None:
    """Put the statistics of batch normalisation, as they are for these images, in place of a model's running ones.

    An average of weights has activations unlike those of any of the weights, so neither their statistics nor the
    average of these fit it. A model without batch normalisation is left alone.

    Args:
        model: placed by the engine; in training mode or not, it is so afterwards.
        batches: (B, C, H, W) as in training; the statistics are the mean over the batches.
    Source: Izmailov et al., 2018, arXiv:1803.05407, section 3.2; torch.optim.swa_utils.update_bn.
    """
    with engine.autocast():
        update_bn((images.contiguous(memory_format=torch.channels_last) for images in batches), model)


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    were_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in were_training:
            module.training = True


class _Sums:
    """Adds up batches of logits on the device, in float64, and says at the end what they amount to."""

    def __init__(self, num_classes: int, *, device: torch.device) -> None:
        self._num_classes = num_classes
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._confusion = torch.zeros(num_classes * num_classes, dtype=torch.int64, device=device)
        self._probabilities = torch.zeros(num_classes, num_classes, dtype=torch.float64, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        size = self._num_classes
        self._loss += F.cross_entropy(logits, labels, reduction="sum")
        self._confusion += torch.bincount(labels * size + logits.argmax(1), minlength=size**2)
        self._probabilities.index_add_(0, labels, logits.softmax(1).double())

    def gather(self, ranks: Ranks) -> None:
        """Add up what the ranks have."""
        for sums in (self._loss, self._confusion, self._probabilities):
            ranks.total(sums)

    def score(self) -> Score:
        confusion = self._confusion.view(self._num_classes, self._num_classes)
        num_examples = confusion.sum().item()  # here and below the device is waited for
        return Score(self._loss.item() / num_examples, confusion.diagonal().sum().item() / num_examples)

    def evaluation(self, *, mirror: Score | None) -> Evaluation:
        confusion, score = self._confusion.view(self._num_classes, self._num_classes), self.score()
        counts = confusion.sum(1).tolist()
        correct = confusion.diagonal().tolist()
        return Evaluation(
            loss=score.loss,
            accuracy=score.accuracy,
            class_accuracy=[hits / count if count else None for hits, count in zip(correct, counts, strict=True)],
            confusion=confusion.tolist(),
            mean_probabilities=[
                [value / count for value in row] if count else None
                for row, count in zip(self._probabilities.tolist(), counts, strict=True)
            ],
            mirror=mirror,
        )
