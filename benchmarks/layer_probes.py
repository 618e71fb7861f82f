"""What the probes of weights, updates, successive gradients, ReLUs, moments and noise cost, one by one.

    python benchmarks/layer_probes.py

A run measures all of them at every update. Each call of a probe is timed within the step that it belongs to, and set
against the rest of that step: the cost of one measurement. With `telemetry.layers_every = N` it comes every N updates,
the noise scale with `telemetry.noise_every = N`.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loops import experiment_config, load_data
from lrlab.config import parse_config
from lrlab.data import ImageData
from lrlab.experiments import Experiment
from lrlab.probes import (
    AdamSnrProbe,
    DeadReluProbe,
    GradientCosineProbe,
    NoiseScaleProbe,
    UpdateRatioProbe,
    WeightNormProbe,
)
from measuring import clock, digits, environment, median_with_interval, parser, publish, table

TITLE = "What the probes of layers cost"
CHEAP = (WeightNormProbe, UpdateRatioProbe, GradientCosineProbe, DeadReluProbe, AdamSnrProbe)
PROBES = (*CHEAP, NoiseScaleProbe)
THINNED = 25
WARMUP = 3


def main() -> None:
    options = parser(__doc__ or "", repeats=15)
    options.add_argument("--data-dir", type=Path, help="folder with CIFAR-10; without it, noise of its shape")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    options.add_argument("--width", type=int, default=64, help="planes of the network's first stage [64]")
    given = options.parse_args()
    if given.quick:
        given.repeats, given.width = 3, 4
    facts, data = environment(given.device), load_data(given.data_dir, quick=given.quick)
    found = {size: measure(given, data, size) for size in ([8] if given.quick else [128, 4])}
    text = page(found, given)
    print(text)
    if not given.quick:
        publish(f"layer_probes-{given.precision}", title=TITLE, page=text, document={"seconds": found}, facts=facts)


def measure(options: argparse.Namespace, data: ImageData, batch_size: int) -> dict[str, list[float]]:
    """Seconds of each probe and of the rest of the step, update by update."""
    config = experiment_config(
        batch_size=batch_size,
        width=options.width,
        device=options.device,
        precision=options.precision,
        telemetry={"layers_every": 1, "noise_every": 1, "flush_every": 10**9},
    )
    experiment = Experiment(parse_config(config), data=data)
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, call: Callable[..., None]) -> Callable[..., None]:
        def called(*arguments: Any) -> None:
            started = clock(options.device)
            call(*arguments)
            spent[name] += clock(options.device) - started

        return called

    for probe in experiment.probes:
        name = type(probe).__name__
        if isinstance(probe, PROBES):
            probe.observe = timed(name, probe.observe)  # type: ignore[method-assign]
        if isinstance(probe, UpdateRatioProbe):
            probe.detach()
            probe._handle = experiment.optimizer.register_step_post_hook(timed(name, probe._after_step))
        if isinstance(probe, DeadReluProbe):
            probe.detach()
            watch = timed(name, probe._watch)
            relus = [one for found in probe._relus.values() for one in found]
            probe._handles = [one.register_forward_hook(partial(watch, one)) for one in relus]
    measured: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        events = experiment.run(Path(folder) / "run")
        for number in range(WARMUP + options.repeats):
            spent.clear()
            started = clock(options.device)
            list(itertools.islice(events, 1))
            seconds = clock(options.device) - started
            if number >= WARMUP:
                for name, value in spent.items():
                    measured[name].append(value)
                measured["the rest of the step"].append(seconds - sum(spent.values()))
        events.close()
    return dict(measured)


def page(found: Mapping[int, Mapping[str, list[float]]], options: argparse.Namespace) -> str:
    parts = []
    for batch_size, measured in found.items():
        rest = np.array(measured["the rest of the step"])
        costs = {name: np.array(seconds) for name, seconds in measured.items() if name != "the rest of the step"}
        costs["all but NoiseScaleProbe"] = np.sum([costs[kind.__name__] for kind in CHEAP], axis=0)
        rows = []
        for name, seconds in costs.items():
            share = median_with_interval((100 * seconds / rest).tolist())
            once = f"{digits(share['median'])} [{digits(share['interval_low'])}, {digits(share['interval_high'])}]"
            rows.append([name, digits(1e3 * float(np.median(seconds))), once, digits(share["median"] / THINNED)])
        header = ["probe", "ms a measurement", "% of the step", f"every {THINNED} updates, %"]
        parts.append(
            f"Batch {batch_size}: {digits(1e3 * float(np.median(rest)))} ms a step without them; {options.repeats} "
            f"updates.\n\n{table(header, rows)}"
        )
    parts.append(
        f"Medians, in brackets their 95 % bootstrap interval. ResNet-18 of width {options.width}, Adam, device "
        f"{options.device}, precision {options.precision}, {torch.get_num_threads()} threads."
    )
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
