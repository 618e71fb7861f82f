"""Ways to log what telemetry records: beside lrlab's own, those of tutorials and of wandb.watch."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter

from lrlab.config import parse_config
from lrlab.experiments import Update
from lrlab.probes import Probe
from lrlab.runs import RunWriter
from lrlab.training import Recorder
from measuring import clock

NUM_BINS = 64


def scalars(optimizer: Optimizer, writer: SummaryWriter) -> Callable[[Update], None]:
    """Log each parameter group as tutorials do, with PyTorch's quick norms: one .item() and one add_scalar a value."""

    def log(update: Update) -> None:
        step = update.step
        writer.add_scalar("train/loss", update.loss.item(), step)
        for group, lr in zip(optimizer.param_groups, update.lrs, strict=True):
            name, gradients = group["name"], [gradient_of(parameter) for parameter in group["params"]]
            number = sum(gradient.numel() for gradient in gradients)
            length = get_total_norm(gradients).item()
            writer.add_scalar(f"lr/{name}", float(lr), step)
            writer.add_scalar(f"grad_l2/{name}", length, step)
            writer.add_scalar(f"grad_rms/{name}", length / math.sqrt(number), step)
            writer.add_scalar(f"grad_mean_abs/{name}", get_total_norm(gradients, 1.0).item() / number, step)
            writer.add_scalar(f"grad_max_abs/{name}", get_total_norm(gradients, math.inf).item(), step)

    return log


def histograms(model: nn.Module) -> Callable[[Update], None]:
    """Make of each parameter's gradient what the hooks of wandb.watch make of it, and send it nowhere."""
    parameters = list(model.parameters())

    def log(update: Update) -> None:
        for parameter in parameters:
            histogram(gradient_of(parameter))

    return log


def histogram(gradient: Tensor) -> tuple[list[float], list[float]] | None:
    """Counts and edges of 64 bins over the finite numbers, None without any.

    As wandb.watch does it: asks twice whether all is finite, and for the least and the largest, and fetches the counts,
    which is five waits for the device. The numbers are taken in the order of memory, so that none is moved.
    """
    flat = gradient.as_strided((gradient.numel(),), (1,))
    if not torch.isfinite(flat).any():
        return None
    if not torch.isfinite(flat).all():
        flat = flat[torch.isfinite(flat)]
    least, largest = flat.min().item(), flat.max().item()
    counts = flat.histc(NUM_BINS, least, largest).cpu().clone()
    return counts.tolist(), torch.linspace(least, largest, NUM_BINS + 1).tolist()


def gradient_of(parameter: Tensor) -> Tensor:
    """The gradient that the last update was made with."""
    if parameter.grad is None:
        raise RuntimeError("No gradient to log: the loop keeps it elsewhere, and nothing would be measured.")
    return parameter.grad


class FixedProbe(Probe):
    """Measures the same numbers at every update, for nothing: what is left is the cost of recording them."""

    def __init__(self, values: Tensor) -> None:
        super().__init__([f"value/{index}" for index in range(len(values))], every=1)
        self._fixed = values

    def _measure(self) -> Tensor:
        return self._fixed


def recorded_row(values: Tensor, *, directory: Path, num_rows: int) -> float:
    """Seconds that lrlab takes for one row: from the device to Parquet and TensorBoard, flushed every 1,000 updates."""
    loss, numbers = values[0], values[1:]
    probe = FixedProbe(numbers)
    config = parse_config({"steps": num_rows})
    started = clock(values.device.type)
    with RunWriter(directory, config, num_steps=num_rows) as writer:
        recorder = Recorder([], [probe])
        for step in range(1, num_rows + 1):
            probe.observe()
            recorder.add(Update(step, 1, loss, ()))
            if step % config.telemetry.flush_every == 0 or step == num_rows:
                writer.write_rows(recorder.take_rows())
        writer.finish("complete", {})
    return (clock(values.device.type) - started) / num_rows


def scalar_row(values: Tensor, *, directory: Path, num_rows: int) -> float:
    """Seconds that `.item()` and add_scalar take for a row of as many values."""
    started = clock(values.device.type)
    with SummaryWriter(directory) as writer:
        for step in range(1, num_rows + 1):
            for index in range(len(values)):
                writer.add_scalar(f"value/{index}", values[index].item(), step)
    return (clock(values.device.type) - started) / num_rows
