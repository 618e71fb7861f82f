"""What watching costs: lrlab's telemetry at every update, beside the usual ways to log the same.

    python benchmarks/telemetry.py --data-dir data

Five runs of the same network stand in one process, built alike, and are advanced in turn by a few updates each:

off         lrlab with its gradients never measured (the loss and the rates are recorded all the same)
lrlab       the gradients of every layer group at every update, as by default
outputs     off, and the gradients through every layer group's output at every update; by default it is every 25
scalars     off, and after every update L2, RMS, mean and largest |g| of each layer group, each made a number by .item()
            and written by SummaryWriter.add_scalar, with the loss and the rates
histograms  off, and after every update what the hooks of wandb.watch do to each parameter's gradient: finite?, least,
            largest, histogram of 64 bins; its default is every 1,000 updates

The cost of each is the time of its block less that of the block of `off` in the same round, as a share of the latter.
Every block holds a flush, far more often than by default, so that the writing is in it. Then: what one recorded row of
40 values costs from the device to the disk, beside 40 times .item() and add_scalar.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from logging_ways import histograms, recorded_row, scalar_row, scalars
from loops import experiment_config, load_data
from lrlab.config import parse_config
from lrlab.data import ImageData
from lrlab.experiments import Experiment, Update
from measuring import (
    clock,
    digits,
    environment,
    interleave,
    median_with_interval,
    parser,
    publish,
    ratios,
    spread,
    table,
    with_range,
)

TITLE = "What telemetry costs"
NEVER = 10**9
VARIANTS = ("off", "lrlab", "outputs", "scalars", "histograms")
BY_DEFAULT = {"outputs": 25, "histograms": 1000}
"""Updates between two measurements if nobody says otherwise: telemetry.outputs_every, and log_freq of wandb.watch."""
NUM_VALUES = 40
NUM_ROWS = 5000
NUM_UNWATCHED = 20
"""Updates made while every wait for the device is an error."""


class Blocks:
    """A run that is advanced by blocks of updates, each timed."""

    def __init__(self, name: str, options: argparse.Namespace, *, batch_size: int, size: int, data: ImageData) -> None:
        self._size, self._device = size, options.device
        self._folder = tempfile.TemporaryDirectory()
        every = {"every": 1 if name == "lrlab" else NEVER, "outputs_every": 1 if name == "outputs" else NEVER}
        config = experiment_config(
            batch_size=batch_size,
            width=options.width,
            device=options.device,
            precision=options.precision,
            telemetry={**every, "flush_every": size},
        )
        directory = Path(self._folder.name)
        experiment = Experiment(parse_config(config), data=data)
        self._beside = beside(name, experiment, directory=directory / "beside")
        self._events = experiment.run(directory / "run")
        self.make(max(1, size // 2))  # warm-up; each block then has its flush in its middle

    def measure(self) -> float:
        """Make the updates of a block, and return its seconds."""
        started = clock(self._device)
        self.make(self._size)
        return clock(self._device) - started

    def make(self, num_updates: int) -> None:
        """Make updates, with what this variant does after each."""
        for event in itertools.islice(self._events, num_updates):
            assert isinstance(event, Update), "nothing is evaluated"
            self._beside(event)

    def close(self) -> None:
        """End the run, and delete what it wrote."""
        self._events.close()
        self._folder.cleanup()


def beside(name: str, experiment: Experiment, *, directory: Path) -> Callable[[Update], None]:
    """Return what a variant does after each update, besides lrlab's own."""
    if name == "scalars":
        return scalars(experiment.optimizer, SummaryWriter(directory))
    return histograms(experiment.model) if name == "histograms" else lambda update: None


def block_size(batch_size: int, options: argparse.Namespace) -> int:
    """Updates in a block: some hundreds of images on a processor, more on a GPU."""
    return options.block or max(4, (32_000 if options.device == "cuda" else 200) // batch_size)


def shares(seconds: Mapping[str, list[float]], name: str) -> list[float]:
    """Cost of a variant in each round, as a share of the round's block without telemetry."""
    return [taken / base - 1 for taken, base in zip(seconds[name], seconds["off"], strict=True)]


def quotient(one: float, other: float) -> float | None:
    """Divide one cost by another; None where either is lost in the noise, at or below nothing."""
    return one / other if one > 0 and other > 0 else None


def summarise(seconds: Mapping[str, list[float]], *, batch_size: int, size: int) -> dict[str, Any]:
    """Cost of each variant as a share of the step and in seconds an update, and how often lrlab's goes into it."""
    costs = {}
    for name in VARIANTS[1:]:
        found = shares(seconds, name)
        absolute = [(taken - base) / size for taken, base in zip(seconds[name], seconds["off"], strict=True)]
        costs[name] = {"share_of_step": median_with_interval(found), "seconds": median_with_interval(absolute)}
    ours = costs["lrlab"]["share_of_step"]
    for name in VARIANTS[2:]:
        theirs = costs[name]["share_of_step"]
        costs[name]["times_lrlab"] = quotient(theirs["median"], ours["median"])
        costs[name]["times_lrlab_at_least"] = quotient(theirs["interval_low"], ours["interval_high"])
    return {
        "batch_size": batch_size,
        "updates_a_block": size,
        "seconds_an_update_without": spread([taken / size for taken in seconds["off"]]),
        "costs": costs,
    }


def percent(share: Mapping[str, float]) -> str:
    """Write a share and its interval in per cent, with their signs."""
    median, low, high = (f"{100 * share[key]:+.2f}" for key in ("median", "interval_low", "interval_high"))
    return f"{median} [{low}, {high}]"


def rows_of(summary: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, cost in summary["costs"].items():
        seconds = cost["seconds"]
        times = [digits(cost[key]) if cost.get(key) else "" for key in ("times_lrlab", "times_lrlab_at_least")]
        rows.append([name, percent(cost["share_of_step"]), f"{1e3 * seconds['median']:+.3f}", *times])
    return rows


def count_updates_without_a_wait(options: argparse.Namespace, data: ImageData) -> int:
    """Make updates with telemetry while CUDA makes an error of every wait for it; return how many."""
    batch_size = 8 if options.quick else 128  # within an epoch: a new one brings its order to the device
    blocks = Blocks("lrlab", options, batch_size=batch_size, size=10 * NUM_UNWATCHED, data=data)
    torch.cuda.set_sync_debug_mode("error")
    try:
        blocks.make(NUM_UNWATCHED)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    blocks.close()
    return NUM_UNWATCHED


def measure_rows(options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds a row of both ways, in turn."""
    values = torch.rand(NUM_VALUES, device=options.device)
    num_rows = 200 if options.quick else NUM_ROWS
    ways = {"lrlab": recorded_row, "scalars": scalar_row}

    def measure(name: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return ways[name](values, directory=Path(folder) / "run", num_rows=num_rows)

    return interleave(list(ways), measure, repeats=min(5, options.repeats))


def measure_blocks(
    options: argparse.Namespace, data: ImageData, *, batch_size: int, size: int
) -> dict[str, list[float]]:
    """Seconds of each variant's blocks, in turn."""
    runs = {name: Blocks(name, options, batch_size=batch_size, size=size, data=data) for name in VARIANTS}
    try:
        return interleave(VARIANTS, lambda name: runs[name].measure(), repeats=options.repeats)
    finally:
        for run in runs.values():
            run.close()


def page(
    summaries: Sequence[Mapping[str, Any]], rows: Mapping[str, list[float]], *, options: argparse.Namespace
) -> str:
    """One table a batch size, and the time of a row."""
    parts = []
    for summary in summaries:
        step = 1e3 * summary["seconds_an_update_without"]["median"]
        header = ["telemetry", "% of the step", "ms an update", "times lrlab's cost", "at least"]
        defaults = [
            f"{name} every {every} updates {100 * summary['costs'][name]['share_of_step']['median'] / every:+.3f}"
            for name, every in BY_DEFAULT.items()
        ]
        parts.append(
            f"Batch {summary['batch_size']}: {digits(step)} ms an update without telemetry; {options.repeats} rounds "
            f"of {summary['updates_a_block']} updates each.\n\n{table(header, rows_of(summary))}\n\n"
            f"As by default, in % of the step: {', '.join(defaults)} (the cost above, divided)."
        )
    ours, theirs = (1e6 * spread(rows[name])["median"] for name in ("lrlab", "scalars"))
    times = with_range(ratios(rows["scalars"], rows["lrlab"]))
    parts.append(
        f"One row of {NUM_VALUES} values, from the device to the disk: {digits(ours)} microseconds with lrlab, "
        f"{digits(theirs)} with .item() and add_scalar, {times} times as much."
    )
    parts.append(
        f"Medians, in brackets their 95 % bootstrap interval (of the row: least and largest). ResNet-18 of width "
        f"{options.width}, Adam, device {options.device}, precision {options.precision}, {torch.get_num_threads()} "
        "threads."
    )
    return "\n\n".join(parts)


def read_options() -> argparse.Namespace:
    made = parser(__doc__, repeats=30)
    made.add_argument("--data-dir", type=Path, help="folder with CIFAR-10; without it, noise of its shape")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    made.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), default="auto", help="[auto: bf16 where it pays]"
    )
    made.add_argument("--batch", type=int, action="append", help="batch size, repeatable [128, 4]")
    made.add_argument("--width", type=int, default=64, help="planes of the network's first stage [64]")
    made.add_argument("--block", type=int, help="updates of a block [200 images', and 32,000 on a GPU]")
    options = made.parse_args()
    if options.quick:
        options.repeats, options.width, options.block = 3, 4, 4
    return options


def main() -> None:
    options = read_options()
    facts = environment(options.device)
    data = load_data(options.data_dir, quick=options.quick)
    summaries, measured = [], {}
    for batch_size in options.batch or ([8] if options.quick else [128, 4]):
        size = block_size(batch_size, options)
        measured[batch_size] = measure_blocks(options, data, batch_size=batch_size, size=size)
        summaries.append(summarise(measured[batch_size], batch_size=batch_size, size=size))
    rows = measure_rows(options)
    text = page(summaries, rows, options=options)
    document = {"summary": summaries, "seconds_of_blocks": measured, "seconds_of_a_row": rows}
    if options.device == "cuda":
        num_updates = document["updates_without_a_wait"] = count_updates_without_a_wait(options, data)
        text += f"\n\n{num_updates} updates with telemetry were made while CUDA made an error of every wait for it."
    print(text)
    if not options.quick:
        settings = {key: value for key, value in vars(options).items() if key != "data_dir"}
        publish("telemetry", title=TITLE, page=text, document={"settings": settings, **document}, facts=facts)


if __name__ == "__main__":
    main()
