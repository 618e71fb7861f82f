"""What a checkpoint costs the training, of a network of full width.

    python benchmarks/checkpointing.py

Two runs of the same network stand in one process and are advanced in turn by blocks of updates; one saves once in each
of its blocks, the other never. What a checkpoint costs is the time of its block less that of the other in the same
round: by the clock, and in seconds of the processor's cores, which what else runs on the machine disturbs less. Beside
that, its two parts alone: the bytes, for which the training waits, and the writing, which a thread does behind it:
files, SHA-256, sync, rename, and reading the older checkpoint again that is kept.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from loops import FOREVER, experiment_config, load_data
from lrlab.config import parse_config
from lrlab.data import ImageData
from lrlab.experiments import Experiment, Update
from lrlab.experiments.state import checkpoint_files
from lrlab.runs.checkpoints import write_checkpoint
from measuring import digits, environment, parser, publish, spread, table, with_range

TITLE = "What a checkpoint costs"
INTERVALS = {"one a minute": 60.0, "one in five minutes": 300.0}
"""Seconds from one to the next; the second is the default."""

Times = dict[str, float]


def timed(work: Callable[[], object]) -> Times:
    """Seconds of some work by the clock, of all cores, and of a core for this thread."""
    started = time.perf_counter(), time.process_time(), time.thread_time()
    work()
    ended = time.perf_counter(), time.process_time(), time.thread_time()
    return dict(zip(("clock", "cores", "thread"), (b - a for a, b in zip(started, ended, strict=True)), strict=True))


class Blocks:
    """A run that is advanced by blocks of updates, with a checkpoint in the middle of each or with none."""

    def __init__(self, options: argparse.Namespace, *, saves: bool, data: ImageData, folder: Path) -> None:
        self._size = options.block
        saved = {"every": options.block if saves else FOREVER, "minutes": float(FOREVER)}
        config = experiment_config(
            batch_size=options.batch, width=options.width, device="cpu", precision="auto", checkpoint=saved
        )
        self.experiment = Experiment(parse_config(config), data=data)
        self._events = self.experiment.run(folder / f"saves-{saves}")
        self._make(options.block // 2)

    def measure(self) -> Times:
        """Make the updates of a block."""
        return timed(lambda: self._make(self._size))

    def close(self) -> None:
        """End the run."""
        self._events.close()

    def _make(self, num_updates: int) -> None:
        for event in itertools.islice(self._events, num_updates):
            assert isinstance(event, Update), "nothing is evaluated"


def measure(options: argparse.Namespace, data: ImageData) -> dict[str, list[Times]]:
    """Times of each round: the blocks of both runs, and the parts of a checkpoint alone."""
    measured: dict[str, list[Times]] = {name: [] for name in ("with", "without", "bytes", "writing")}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        runs = {"without": Blocks(options, saves=False, data=data, folder=folder)}
        runs["with"] = Blocks(options, saves=True, data=data, folder=folder)
        alone = folder / "alone"
        (alone / "checkpoints").mkdir(parents=True)
        for number in range(options.repeats + 1):
            found = {name: run.measure() for name, run in runs.items()}
            files: dict[str, bytes] = {}
            found["bytes"] = timed(lambda: files.update(checkpoint_files(runs["with"].experiment, {})))  # noqa: B023
            found["writing"] = timed(lambda: write_checkpoint(alone, number + 1, files, keep=2))  # noqa: B023
            for name, times in found.items() if number else ():  # the first round is thrown away
                measured[name].append(times)
        for run in runs.values():
            run.close()
        measured["megabytes"] = [{"clock": sum(map(len, files.values())) / 1e6}]
    return measured


def costs(measured: Mapping[str, list[Times]]) -> dict[str, list[float]]:
    """Seconds of a checkpoint in each round, counted in several ways."""
    pairs = list(zip(measured["with"], measured["without"], strict=True))
    return {
        "bytes, for which the training waits": [times["clock"] for times in measured["bytes"]],
        "writing, in a thread behind it": [times["clock"] for times in measured["writing"]],
        "its block less the other, by the clock": [one["clock"] - other["clock"] for one, other in pairs],
        "the same, of the training's thread": [one["thread"] - other["thread"] for one, other in pairs],
        "the same, of all cores, over their number": [
            (one["cores"] - other["cores"]) / torch.get_num_threads() for one, other in pairs
        ],
    }


def page(found: Mapping[str, list[float]], measured: Mapping[str, list[Times]], *, options: argparse.Namespace) -> str:
    """One table, and what was measured."""
    rows = [
        [name, with_range([1e3 * value for value in seconds])]
        + [f"{100 * spread(seconds)['median'] / interval:+.2f}" for interval in INTERVALS.values()]
        for name, seconds in found.items()
    ]
    update = spread([times["clock"] / options.block for times in measured["without"]])["median"]
    return (
        f"{table(['a checkpoint', 'ms', *(f'%, {name}' for name in INTERVALS)], rows)}\n\n"
        f"{digits(measured['megabytes'][0]['clock'])} MB; {options.repeats} rounds of {options.block} updates of "
        f"{options.batch} images, {digits(1e3 * update)} ms an update. Medians, in brackets the least and the largest "
        f"round. ResNet-18 of width {options.width}, Adam, {torch.get_num_threads()} threads."
    )


def read_options() -> argparse.Namespace:
    made = parser(__doc__ or "", repeats=25)
    made.add_argument("--width", type=int, default=64, help="planes of the network's first stage [64]")
    made.add_argument("--batch", type=int, default=16, help="batch size [16]")
    made.add_argument("--block", type=int, default=20, help="updates of a block [20]")
    made.add_argument("--folder", type=Path, help="where runs are made and deleted again [the temporary folder]")
    options = made.parse_args()
    if options.quick:
        options.repeats, options.width, options.block = 2, 4, 4
    return options


def main() -> None:
    options = read_options()
    facts = environment()
    measured = measure(options, load_data(None, quick=options.quick))
    found = costs(measured)
    text = page(found, measured, options=options)
    print(text)
    if not options.quick:
        settings = {name: value for name, value in vars(options).items() if name != "folder"}
        document = {"settings": settings, "summary": {name: spread(seconds) for name, seconds in found.items()}}
        publish("checkpointing", title=TITLE, page=text, document={**document, "times": measured}, facts=facts)


if __name__ == "__main__":
    main()
