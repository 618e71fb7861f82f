"""How sharp the loss of a run is at its checkpoints, measured after it was made."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from lrlab.config import ConfigError, merge, parse_config
from lrlab.data import normalise
from lrlab.data.randomness import order
from lrlab.experiments.run import Experiment, experiment_to_measure
from lrlab.experiments.state import restore
from lrlab.gradients import WHOLE
from lrlab.runs import Checkpoint, Run, RunError
from lrlab.runs.afterwards import SHARPNESS, later_rows
from lrlab.runs.checkpoints import checkpoint_paths, checkpoint_step, read_checkpoint
from lrlab.training import memory_errors
from lrlab.training.curvature import Curvature, measure_curvature
from lrlab.training.surface import BatchNormPolicy, LossSurface

_FEWEST_EXAMPLES: Final = 512
"""In a sample, where nothing else is asked for."""
_SEED: Final = 0
"""Of the examples and the vectors: the same for all runs, so that these can be paired."""


@dataclass(frozen=True)
class SharpnessPlan:
    """How sharpness is measured."""

    num_samples: int = 2
    """Disjoint samples of training images that it is measured on, one after another; their spread is its error."""
    num_examples: int | None = None
    """Images in a sample; None: the smallest multiple of the run's batch size from 512 on."""
    batchnorm: BatchNormPolicy = "training"
    """See `lrlab.training.LossSurface`."""
    by_group: bool = True
    """Whether each layer group is measured by itself too, which takes several times as long."""
    num_vectors: int = 10
    """Of random signs for the trace, in each sample."""
    rho: float = 0.05
    """Distance of SAM's sharpness."""


@dataclass(frozen=True)
class Sharpness:
    """What was measured at one checkpoint."""

    step: int
    samples: Sequence[Curvature]
    edges: Mapping[str, float | None]
    """Column -> eigenvalue from which the rate of that update makes the optimizer oscillate."""
    seconds: float
    """That it took."""
    forgot_moments: bool = False
    """Whether the optimizer is Adam and has no moments, since a decay has just reset it: nothing is as Adam sees it."""

    @property
    def sentence(self) -> str:
        """Say what was found of all groups together."""
        row = self.values()
        spread = f"{row[f'hessian_max_low/{WHOLE}']:.3g} to {row[f'hessian_max_high/{WHOLE}']:.3g}"
        parts = [f"update {self.step:,}: largest eigenvalue {row[f'hessian_max/{WHOLE}']:.3g} ({spread})"]
        if (edge := self.edges[f"hessian_edge/{WHOLE}"]) is not None:
            parts.append(f"its edge of stability {edge:.3g}")
        if (seen := row.get(f"preconditioned_max/{WHOLE}")) is not None:
            parts.append(f"as Adam sees it {seen:.3g}")
        if (edge := self.edges.get(f"preconditioned_edge/{WHOLE}")) is not None:
            parts.append(f"the edge of that {edge:.3g}")
        if self.forgot_moments:
            parts.append("nothing as Adam sees it, whose moments a decay has just reset")
        parts.append(f"trace {row[f'hessian_trace/{WHOLE}']:.3g}")
        parts.append(f"SAM sharpness {row[f'sam_sharpness/{WHOLE}']:.3g}")
        return f"{', '.join(parts)}; {self.seconds:,.0f} s"

    def values(self) -> dict[str, float | None]:
        """Return the row: the mean of each quantity over the samples, and its least and its largest value."""
        row: dict[str, float | None] = {}
        for quantity, found in self._by_quantity().items():
            for group in found[0]:
                values = [sample[group] for sample in found]
                row[f"{quantity}/{group}"] = float(np.mean(values))
                row[f"{quantity}_low/{group}"], row[f"{quantity}_high/{group}"] = min(values), max(values)
        return {**row, **self.edges}

    def _by_quantity(self) -> dict[str, list[dict[str, float]]]:
        quantities = {
            name: [getattr(sample, name) for sample in self.samples]
            for name in ("hessian_max", "hessian_trace", "sam_sharpness")
        }
        seen = [{WHOLE: one.preconditioned_max} for one in self.samples if one.preconditioned_max is not None]
        return {**quantities, **({"preconditioned_max": seen} if seen else {})}


def measure_sharpness(run: Run, plan: SharpnessPlan, *, at: Sequence[int] | None = None) -> Iterator[Sharpness]:
    """Measure how sharp a run's loss is at its checkpoints, and yield what comes of each once it is written.

    The loss is the one that is trained on, label smoothing included and weight decay not, over training images that
    are not augmented, in float32; the weights are those that are trained, not their average. What is there already is
    not measured again.

    Args:
        run: with its checkpoints; more than the last ones are there with checkpoint.every and checkpoint.keep.
        plan: how.
        at: updates whose checkpoints are measured; all checkpoints where it is None.
    Raises: RunError if there is no such checkpoint; ConfigError for a plan that does not fit the run; CurvatureError;
        DamagedError, LockedError, StorageError; DataError if the images are no longer those of the run.
    """
    # in float32: with another precision a GPU would round what its convolutions are given
    config = parse_config(merge(dict(run.config), {"engine": {"precision": "fp32"}}))
    size = _num_examples(plan, config.batch_size)
    how = {
        "batchnorm": plan.batchnorm,
        "examples": size,
        "samples": plan.num_samples,
        "groups": plan.by_group,
        "vectors": plan.num_vectors,
        "rho": plan.rho,
    }
    paths = _checkpoints(run, at)
    with later_rows(run.directory, SHARPNESS, how=how) as (there, add):
        left = [path for path in paths if checkpoint_step(path) not in there]
        if not left:
            return
        experiment = experiment_to_measure(config, run.info)
        batch_size = config.batch_size if plan.batchnorm == "training" else config.evaluate.batch_size
        samples = _samples(experiment, plan.num_samples, size, batch_size=batch_size)
        for path in left:
            with memory_errors("second derivatives of one batch do not fit. Free memory, or use another device."):
                found = _measure(experiment, run, read_checkpoint(path), samples, plan)
            add(found.step, found.values())
            yield found


def _num_examples(plan: SharpnessPlan, batch_size: int) -> int:
    if plan.num_samples < 1:
        raise ConfigError(f"--samples must be at least 1, got {plan.num_samples}.")
    size = plan.num_examples if plan.num_examples is not None else -(-_FEWEST_EXAMPLES // batch_size) * batch_size
    if size < 1:
        raise ConfigError(f"--examples must be at least 1, got {size}.")
    if plan.batchnorm == "training" and size % batch_size:
        above = -(-size // batch_size) * batch_size
        raise ConfigError(
            f"--examples must be a multiple of the batch size, {batch_size}, since batch normalisation works by "
            f"batches in training, got {size}. Use {above}."
        )
    return size


def _checkpoints(run: Run, at: Sequence[int] | None) -> list[Any]:
    paths = {checkpoint_step(path): path for path in reversed(checkpoint_paths(run.directory))}
    if not paths:
        raise RunError(f"{run.directory}: it has no checkpoints, so there are no weights to measure.")
    if missing := [step for step in at or () if step not in paths]:
        listed = ", ".join(f"{step:,}" for step in paths)
        raise RunError(
            f"{run.directory}: no checkpoint at update {missing[0]:,}; there are some at {listed}. A run keeps more "
            "with checkpoint.every and checkpoint.keep."
        )
    return [path for step, path in paths.items() if at is None or step in at]


def _samples(experiment: Experiment, num_samples: int, size: int, *, batch_size: int) -> list[list[Any]]:
    """Disjoint samples of training images, each in batches."""
    data = experiment.data
    if num_samples * size > len(data.train):
        raise ConfigError(
            f"{num_samples} samples of {size:,} images need more than the {len(data.train):,} training images of the "
            "run. Lower --samples or --examples."
        )
    places = order(_SEED, 0, len(data.train))[: num_samples * size].to(data.train.labels.device)

    def batch(indices: Tensor) -> tuple[Tensor, Tensor]:
        images = normalise(data.train.images[indices], mean=data.mean, std=data.std)
        return images.contiguous(memory_format=torch.channels_last), data.train.labels[indices]

    return [[batch(indices) for indices in sample.split(batch_size)] for sample in places.split(size)]


def _measure(
    experiment: Experiment, run: Run, checkpoint: Checkpoint, samples: list[list[Any]], plan: SharpnessPlan
) -> Sharpness:
    started = time.monotonic()
    restore(experiment, checkpoint.files)
    network = experiment.network
    loss = partial(F.cross_entropy, label_smoothing=experiment.config.label_smoothing)
    moments = _second_moments(experiment.optimizer)
    found = [
        measure_curvature(
            LossSurface(network.model, network.layers, sample, batchnorm=plan.batchnorm, loss=loss),
            seed=_SEED,
            num_vectors=plan.num_vectors,
            rho=plan.rho,
            by_group=plan.by_group,
            second_moments=None if moments is None else network.by_parameter(moments),
        )
        for sample in samples
    ]
    edges = _edges(experiment, run, checkpoint.step, by_group=plan.by_group, has_moments=moments is not None)
    forgot = moments is None and _is_adam(experiment.optimizer)
    return Sharpness(checkpoint.step, found, edges, time.monotonic() - started, forgot)


def _second_moments(optimizer: Optimizer) -> dict[str, Tensor] | None:
    """Adam's v of each group, (N,), with its bias corrected; None of another optimizer, or where it was just reset."""
    moments = {}
    for group in optimizer.param_groups:
        (whole,) = group["params"]
        held = optimizer.state[whole]
        if "exp_avg_sq" not in held:
            return None
        moments[group["name"]] = held["exp_avg_sq"] / (1 - group["betas"][1] ** float(held["step"]))
    return moments


def _is_adam(optimizer: Optimizer) -> bool:
    return "betas" in optimizer.param_groups[0]


def _edges(
    experiment: Experiment, run: Run, step: int, *, by_group: bool, has_moments: bool
) -> dict[str, float | None]:
    """The eigenvalue on the edge of stability, at the rates with which the weights were reached, and the momentum then.

    Gradient descent, with momentum beta: 2 (1 + beta) / lr; in Nesterov's form over 1 + 2 beta as well (Cohen et al.,
    2021, arXiv:2103.00065). With Adam it is 2 / lr, that of plain descent, and `preconditioned_edge` is Adam's own,
    where it has moments that an eigenvalue was preconditioned by. Of all groups together there is none if their rates
    differ.
    """
    how = experiment.optimizer.param_groups[0]
    momentum, is_nesterov = (0.0, False) if _is_adam(experiment.optimizer) else (how["momentum"], how["nesterov"])
    factor = 2 * (1 + momentum) / (1 + 2 * momentum if is_nesterov else 1)
    rates = {name: _at(run, f"lr/{name}", step) for name in experiment.group_names}
    whole = next(iter(rates.values())) if len(set(rates.values())) == 1 else None
    shown = {WHOLE: whole, **(rates if by_group else {})}
    edges = {f"hessian_edge/{name}": _over(factor, rate) for name, rate in shown.items()}
    if has_moments:
        beta1 = how["betas"][0]
        edges[f"preconditioned_edge/{WHOLE}"] = _over((2 + 2 * beta1) / (1 - beta1), whole)
    return edges


def _at(run: Run, column: str, step: int) -> float:
    steps, values = run.series(column)
    return float(values[np.searchsorted(steps, step)])


def _over(factor: float, rate: float | None) -> float | None:
    return factor / rate if rate else None
