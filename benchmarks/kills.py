"""Runs that are killed at random and resumed, compared to the bit with runs that nobody disturbed.

    python benchmarks/kills.py

Many short trainings on the digits, each killed up to five times by SIGKILL: half of the kills come after a random
time, half at a random call that changes the file system (before it, after it, or with some of the file lost), so in the
middle of saves, of flushes, of evaluations and of resuming itself. Then the run goes on to its end, and is compared
with one of the same configuration that was never stopped: weights, the state of optimizer, scheduler and probes, every
row, every evaluation, every decision, every TensorBoard event, each of them once.

A run makes its disk write some 200 times; --folder /dev/shm, in memory, is quicker and shows a kill as well.
"""

from __future__ import annotations

import argparse
import collections
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from crashing import Ended, Warm, moments
from lrlab.experiments.verify import differences
from lrlab.runs import RunError, read_run, sound_checkpoints
from measuring import environment, parser, publish, table

TITLE = "Runs that were killed"
MAX_KILLS = 5
"""Of one run."""

SMALL = {
    "model": {"width": 2},
    "batch_size": 16,
    "steps": 60,
    "checkpoint": {"every": 10},
    "evaluate": {"every": 20},
    "telemetry": {"flush_every": 7},
    "device": "cpu",  # also where there is a GPU, whose digits do not repeat
}
WEAK = {"measured": "weak_gradients", "every": 10}
SLOPE = {"name": "slope", "window": 20, "min_progress": 0.9, "level": 0.4}
SGD = {"name": "sgd", "lr": 0.05, "nesterov": True}
KINDS: Mapping[str, dict[str, Any]] = {
    "article, reset": {"schedule": {"name": "article", "check_every": 10, "multiplier": 1000.0}},
    "slope, sgd": {"schedule": SLOPE, "optimizer": SGD, "steps": 80},
    "slope in phases": {"schedule": SLOPE, "phases": {"warmup_steps": 10, "cooldown_steps": 20}, "steps": 90},
    "plateau, averaged": {
        "schedule": {"name": "plateau", "check_every": 8, "patience": 1, "threshold": 0.1},
        "averaging": {"decay": 0.9, "every": 3},
    },
    "cosine, warm-up, augmented": {
        "schedule": {"name": "cosine"},
        "phases": {"warmup_steps": 12},
        "data": {"flip": True, "crop_padding": 1, "cutout": 2},
        "model": {"width": 4},
        "checkpoint": {"every": 5},
    },
    "rates per layer, measured": {
        "schedule": {"name": "article", "check_every": 15, "multiplier": 1000.0},
        "layer_rates": {"stem": WEAK, "layer[34]": WEAK, "linear": {"shape": "cosine", "start": 1.0, "end": 0.1}},
        "checkpoint": {"every": 7},
    },
    "snr, adamw": {
        "schedule": {"name": "snr", "check_every": 25, "sample_every": 5},
        "optimizer": {"name": "adamw"},
        "checkpoint": {"every": 6, "keep": 3},
    },
    "stationarity, sgd": {
        "schedule": {"name": "stationarity", "check_every": 30, "sample_every": 1, "min_samples": 20},
        "optimizer": SGD,
        "steps": 120,
    },
    "greedy, averaged, mirror": {
        "schedule": {"name": "greedy", "check_every": 5, "patience": 1, "factor": 0.5},
        "averaging": {"decay": 0.8},
        "evaluate": {"every": 20, "mirror": True},
    },
    "torch's warm restarts": {
        "schedule": {"name": "torch:CosineAnnealingWarmRestarts", "T_0": 17},
        "telemetry": {"flush_every": 7, "every": 3, "outputs_every": 4},
        "label_smoothing": 0.1,
    },
}


def config_of(kind: str) -> dict[str, Any]:
    """The configuration of a kind of run."""
    return {**SMALL, **KINDS[kind]}


def compare(one: Path, other: Path) -> list[str]:
    """List what is not the same in two directories of runs that are complete, times left out."""
    runs = read_run(one), read_run(other)
    found = [f"status: {run.status}" for run in runs if run.status != "complete"]
    saved = [{checkpoint.step: checkpoint for checkpoint in sound_checkpoints(directory)} for directory in (one, other)]
    if len(saved[0]) != len(saved[1]) or max(saved[0], default=0) != max(saved[1], default=0) or found:
        return [*found, "checkpoints"]
    for step in saved[0].keys() & saved[1].keys():  # the older one may be where a signal came
        found += differences(runs[0], saved[0][step], runs[1], saved[1][step])
    for what in (_steps, _events, _pictures, _result, _left_over):
        if what(one) != what(other):
            found.append(what.__name__.removeprefix("_").replace("_", " "))
    if _steps(other) != list(range(1, runs[0].result["steps"] + 1)):
        found.append("rows are not there once each")
    return found


def _steps(directory: Path) -> list[int]:
    """Updates as they stand in the files, one part after another."""
    parts = sorted((directory / "metrics").glob("*.parquet"))
    return [step for part in parts for step in pq.read_table(part, columns=["step"])["step"].to_pylist()]


def _events(directory: Path) -> list[tuple[int, str, bytes]]:
    """All values in TensorBoard's files, each as often as it is there."""
    return sorted(
        (event.step, value.tag, value.SerializeToString())
        for path in directory.glob("events.out.tfevents.*")
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    )


def _pictures(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("confusion/*.png")}


def _result(directory: Path) -> dict[str, Any]:
    times = ("train_seconds", "images_per_second")
    return {name: value for name, value in read_run(directory).result.items() if name not in times}


def _left_over(directory: Path) -> list[str]:
    """Files that a killed process leaves, which whoever goes on must clear away."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob(".*.tmp"))


def place(ended: Ended) -> str:
    """Say where a kill came, by the path it was at."""
    if not ended.killed_at:
        return "by the clock"
    if "/.step-" in ended.killed_at:
        return "in a save, before its rename" if "after rename" not in ended.killed_at else "in a save, just renamed"
    if "/checkpoints" in ended.killed_at:
        return "in a save, renamed: the mark of the newest, and pruning"
    places = {"/metrics": "at rows", "evaluations": "at an evaluation", "confusion": "at an evaluation"}
    return next((where for part, where in places.items() if part in ended.killed_at), "elsewhere in the directory")


def is_complete(directory: Path) -> bool:
    """Say whether there is a run that is over."""
    try:
        return read_run(directory).status == "complete"
    except RunError:  # killed before its first word
        return False


class Killing:
    """Kills runs until it has killed enough, and keeps count."""

    def __init__(self, warm: Warm, folder: Path, *, num_kills: int, seed: int) -> None:
        self._warm = warm
        self._folder = folder
        self._left = num_kills
        self._choice = random.Random(seed)
        self._whole: dict[str, Ended] = {}
        self.runs: list[dict[str, Any]] = []

    def all(self) -> Iterator[dict[str, Any]]:
        """Yield what came of each run."""
        kinds = list(KINDS)
        while self._left > 0:
            yield self._one(kinds[len(self.runs) % len(kinds)])

    def _one(self, kind: str) -> dict[str, Any]:
        undisturbed = self._undisturbed(kind)
        directory = self._folder / f"run{len(self.runs)}"
        job = {"run": str(directory), "config": config_of(kind)}
        wanted = min(self._choice.randint(1, MAX_KILLS), self._left)
        chosen = moments(self._choice, seconds=undisturbed.seconds, num_calls=undisturbed.num_calls)
        kills: list[str] = []
        ended = None
        while ended is None or ended.code == -9:
            ended = self._warm.do({**job, **(next(chosen) if len(kills) < wanted else {})})
            if ended.code == -9:
                kills.append(place(ended))
                if is_complete(directory):  # it had said so before the kill came
                    break
        self._left -= len(kills)
        found = compare(self._path(kind), directory) if ended.code in (0, -9) else [ended.err.splitlines()[-1]]
        made = {"kind": kind, "kills": kills, "differences": found}
        self.runs.append(made)
        return made

    def _undisturbed(self, kind: str) -> Ended:
        if kind not in self._whole:
            self._whole[kind] = self._warm.do({"run": str(self._path(kind)), "config": config_of(kind)})
            if self._whole[kind].code:
                raise SystemExit(f"{kind}: {self._whole[kind].err}")
        return self._whole[kind]

    def _path(self, kind: str) -> Path:
        return self._folder / f"whole-{list(KINDS).index(kind)}"


def page(runs: list[dict[str, Any]], *, seconds: float) -> str:
    """Write what came of it as tables."""
    rows = []
    for kind in KINDS:
        here = [run for run in runs if run["kind"] == kind]
        if here:
            counts = (len(here), sum(len(run["kills"]) for run in here), max(len(run["kills"]) for run in here))
            rows.append([kind, *map(str, counts), str(sum(bool(run["differences"]) for run in here))])
    places = collections.Counter(place for run in runs for place in run["kills"])
    num_kills, num_different = sum(places.values()), sum(bool(run["differences"]) for run in runs)
    head = (
        f"{num_kills} kills in {len(runs)} runs, {num_different} of which ended otherwise than the run of the same "
        f"configuration that was never stopped. {seconds:,.0f} s."
    )
    columns = ["runs of 60 to 120 updates", "runs", "kills", "most in one", "different"]
    where = table(["where the kills came", "kills"], [[name, str(count)] for name, count in places.most_common()])
    return f"{head}\n\n{table(columns, rows)}\n\n{where}"


def options_of() -> argparse.Namespace:
    """Read the options; rounds mean nothing here."""
    made = parser(__doc__ or "")
    made.add_argument("--kills", type=int, default=200, help="kills in all [200]")
    made.add_argument("--seed", type=int, default=0, help="of the moments [0]")
    made.add_argument("--folder", type=Path, help="where runs are made and deleted again [the temporary folder]")
    return made.parse_args()


def main() -> None:
    options = options_of()
    facts = environment()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, Warm() as warm:
        killing = Killing(warm, Path(folder), num_kills=4 if options.quick else options.kills, seed=options.seed)
        for made in killing.all():
            print(
                f"{made['kind']}: {len(made['kills'])} kills, {'; '.join(made['differences']) or 'the same'}",
                flush=True,
            )
    text = page(killing.runs, seconds=time.monotonic() - started)
    print(f"\n{text}")
    if not options.quick:
        settings = {"kills": options.kills, "seed": options.seed, "configurations": {k: config_of(k) for k in KINDS}}
        publish("kills", title=TITLE, page=text, document={"settings": settings, "runs": killing.runs}, facts=facts)
    if any(made["differences"] for made in killing.runs):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
