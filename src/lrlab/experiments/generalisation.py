"""How well a run generalises, beyond its test accuracy, measured once it is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from lrlab.config import ConfigError, DataConfig, parse_config
from lrlab.data import (
    CORRUPTIONS,
    STRENGTHS,
    ImageData,
    Split,
    corrupt,
    evaluation_batches,
    order,
    shifted,
)
from lrlab.experiments.build import build_data
from lrlab.experiments.run import Experiment, experiment_to_measure
from lrlab.experiments.state import MODEL
from lrlab.runs import Run, lock_run
from lrlab.runs.afterwards import GENERALISATION, figures, write_finding
from lrlab.runs.checkpoints import last_network
from lrlab.training import calibrate, features, memory_errors, predict
from lrlab.training.checkpoint import load_model

MOST_FITTED: Final = 10_000
"""Images of the other data set that the linear probe is fitted to."""
_SEED: Final = 0
"""Of the images that are taken where not all are: the same for all runs, so that these can be paired."""
_NEIGHBOURS: Final = ((-1, 0), (1, 0), (0, -1), (0, 1))


def measure_generalisation(
    run: Run, *, num_images: int | None = None, other: DataConfig | None = None
) -> dict[str, Any]:
    """Measure how well the network that a run ended with generalises, and write it to the run.

    All of it is of the weights that are evaluated, the average where there is one, on the split that is evaluated;
    docs/generalisation.md says what each figure means. Images are the first of a fixed random order.

    Args:
        run: with a sound checkpoint; the newest is measured.
        num_images: of the split, and of the training images beside it; None: all of the split, and as many.
        other: the data set of the linear probe; None: the digits, unless the run is trained on those.
    Returns: what run.json has of it from now on.
    Raises: RunError without a checkpoint, DamagedError without a sound one; ConfigError for a number or a data set that
        will not do; DataError, LockedError, StorageError, OutOfMemoryError.
    """
    config = parse_config(dict(run.config))
    if other is None and config.data.name != "digits":
        other = DataConfig(name="digits")
    is_learnt = other is not None and other.name == config.data.name
    if other is not None and is_learnt and (other.name != "folder" or other.dir == config.data.dir):
        raise ConfigError(f"The run was trained on {other.name}: give the linear probe another data set with --other.")
    with lock_run(run.directory):  # before the work, so that another process cannot make it vain
        checkpoint = last_network(run.directory)
        others = None if other is None else build_data(other)
        experiment = experiment_to_measure(config, run.info)
        load_model(experiment.model, checkpoint.files[MODEL])
        with memory_errors("the images do not fit. Lower --images, or free memory."):
            finding = {"step": checkpoint.step, **_Measured(experiment, num_images).finding(others)}
        scalars = {f"{GENERALISATION}/{name}": value for name, value in figures(finding).items()}
        write_finding(run.directory, GENERALISATION, finding, step=checkpoint.step, scalars=scalars)
    return finding


class _Measured:
    """One network on one split."""

    def __init__(self, experiment: Experiment, num_images: int | None) -> None:
        if num_images is not None and num_images < 1:
            raise ConfigError(f"--images must be at least 1, got {num_images}.")
        self._experiment = experiment
        data = experiment.data
        self._name, split = data.evaluated
        self._split = _some(split, num_images or len(split))
        self._train = _some(data.train, min(len(self._split), len(data.train)))

    def finding(self, other: ImageData | None) -> dict[str, Any]:
        labels, split = self._split.labels, self._name
        logits, of_train = self._predict(self._split.images), self._predict(self._train.images)
        accuracy, train_accuracy = _accuracy(logits, labels), _accuracy(of_train, self._train.labels)
        loss, train_loss = _loss(logits, labels), _loss(of_train, self._train.labels)
        calibration, predictions = calibrate(logits, labels), logits.argmax(1)
        corruptions = {kind: [self._corrupted(kind, by) for by in STRENGTHS] for kind in CORRUPTIONS}
        all_corrupted = [value for values in corruptions.values() for value in values]
        moved = [self._share_same(predictions, shifted(self._split.images, down=d, right=r)) for d, r in _NEIGHBOURS]
        return {
            "split": split,
            "images": len(labels),
            "train_images": len(self._train.labels),
            "accuracy": accuracy,
            "loss": loss,
            "train_accuracy": train_accuracy,
            "train_loss": train_loss,
            "accuracy_gap": train_accuracy - accuracy,
            "loss_gap": loss - train_loss,
            "ece": calibration.ece,
            "confidence": calibration.confidence,
            "corrupted_accuracy": sum(all_corrupted) / len(all_corrupted),
            "mirror_consistency": self._share_same(predictions, self._split.images.flip(3)),
            "shift_consistency": sum(moved) / len(moved),
            "reliability": [asdict(one) for one in calibration.bins],
            "corruptions": corruptions,
            "linear_probe": None if other is None else self._linear_probe(other),
        }

    def _predict(self, images: Tensor) -> Tensor:
        return predict(self._experiment.model, self._batches(images), engine=self._experiment.engine)

    def _batches(self, images: Tensor) -> Iterator[Tensor]:
        data, size = self._experiment.data, self._experiment.config.evaluate.batch_size
        split = Split(images.contiguous(), torch.zeros(len(images), dtype=torch.int64, device=images.device))
        return (batch for batch, _ in evaluation_batches(split, mean=data.mean, std=data.std, batch_size=size))

    def _corrupted(self, kind: str, strength: int) -> float:
        return _accuracy(self._predict(corrupt(self._split.images, kind, strength)), self._split.labels)

    def _share_same(self, predictions: Tensor, images: Tensor) -> float:
        return float((self._predict(images).argmax(1) == predictions).double().mean())

    def _linear_probe(self, other: ImageData) -> dict[str, Any]:
        """Fit a linear classifier to the frozen features of other images, and see how far it gets."""
        from sklearn.linear_model import LogisticRegression  # here, since importing them takes a second
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        fitted = _some(other.train, min(MOST_FITTED, len(other.train)))
        seen, unseen = (self._features(split.images) for split in (fitted, other.test))
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        classifier.fit(seen, fitted.labels.numpy())
        return {
            "data": other.name,
            "train_images": len(fitted),
            "test_images": len(other.test),
            "accuracy": float(classifier.score(unseen, other.test.labels.numpy())),
        }

    def _features(self, images: Tensor) -> Any:
        experiment = self._experiment
        made_alike = _like(images, experiment.data.train.images).to(experiment.engine.device)
        return features(experiment.model, self._batches(made_alike), engine=experiment.engine).cpu().numpy()


def _some(split: Split, number: int) -> Split:
    """The first images of a fixed random order; all in their own order where there are no more."""
    if number > len(split):
        raise ConfigError(f"--images must be at most {len(split):,}, the size of the split, got {number:,}.")
    if number == len(split):
        return split
    places = order(_SEED, 0, len(split))[:number].to(split.labels.device)
    return Split(split.images[places], split.labels[places])


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())


def _loss(logits: Tensor, labels: Tensor) -> float:
    return float(F.cross_entropy(logits.double(), labels))


def _like(images: Tensor, others: Tensor) -> Tensor:
    """Images with as many channels, and of the size, of others: grey is repeated, colour averaged, sizes resampled."""
    channels, height, width = others.shape[1:]
    wanted = images.float()
    if images.shape[1] != channels:
        wanted = wanted.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    resized = F.interpolate(wanted, (height, width), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)
