"""How much of a study's time is training, and whether its runs are those that one by one would give.

    python benchmarks/studies.py

A study of many tiny runs on real 8x8 digits goes by `lrlab study --workers`, from typing it to its report. The same
runs are then made one by one in this process, and compared: weights to the byte, and every recorded value.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from lrlab.config import read_study
from lrlab.experiments import Experiment
from lrlab.runs import Run, find_runs, read_run, sound_checkpoints
from lrlab.studies import study_members
from measuring import digits, environment, parser, publish, table

TITLE = "Time and exactness of a study"
NUM_ARMS = 2
HEADER = (
    "round",
    "complete",
    "seconds",
    "training",
    "evaluating",
    "report",
    "training, no report",
    "one by one, s",
    "runs that differ",
)
NOTE = (
    "Seconds are those of the whole command; training and evaluating are the sums over the runs, as shares of workers "
    "times seconds, and the report, which one process draws at the end, is a share of the seconds. What is left is the "
    "start of the workers, the pictures of confusion matrices, and the opening and closing of runs."
)
PLAN = """
name = "tiny"
seeds = {seeds}
[base]
steps = {steps}
batch_size = 16
model.width = 4
evaluate.every = 100000
engine.threads = 1
[arms]
cosine = {{ schedule.name = "cosine" }}
constant = {{ schedule.name = "constant" }}
"""


def run_study(path: Path, workers: int) -> float:
    """Seconds of the whole command."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "lrlab", "study", path.name, "--workers", str(workers)]
    subprocess.run(command, cwd=path.parent, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def seconds_of(run: Run) -> tuple[float, float]:
    """Seconds of training, and of evaluations with what is written of them but for their pictures."""
    return run.result["train_seconds"], run.evaluations()[-1]["evaluation_seconds"]


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two runs: weights, columns of the rows, evaluations, decisions."""
    made, again = read_run(one), read_run(other)
    weights = [sound_checkpoints(path)[0].files["model.safetensors"] for path in (one, other)]
    found = [] if weights[0] == weights[1] else ["weights"]
    if made.columns != again.columns:
        return [*found, "columns"]
    for column in made.columns:
        pairs = zip(made.series(column), again.series(column), strict=True)
        found += [] if all(left.tobytes() == right.tobytes() for left, right in pairs) else [column]
    found += [] if _timeless(made) == _timeless(again) else ["evaluations"]
    return found + ([] if made.decisions() == again.decisions() else ["decisions"])


def _timeless(run: Run) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in record.items() if not name.endswith("seconds")} for record in run.evaluations()
    ]


def main() -> None:
    options = parser(__doc__, repeats=1)
    options.add_argument("--runs", type=int, default=100, help="runs of the study [100]")
    options.add_argument("--steps", type=int, default=800, help="updates of a run [800]")
    options.add_argument("--workers", type=int, default=2, help="processes [2]")
    given = options.parse_args()
    num_seeds, steps = (1, 20) if given.quick else (-(-given.runs // NUM_ARMS), given.steps)
    facts, rounds = environment(), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1 if given.quick else given.repeats):
            path = Path(folder) / str(number) / "tiny.toml"
            path.parent.mkdir()
            path.write_text(PLAN.format(seeds=list(range(num_seeds)), steps=steps))
            rounds.append(measure(path, given.workers))
    text = page(rounds, given.workers, steps)
    print(text)
    if not given.quick:
        publish("studies", title=TITLE, page=text, document={"rounds": rounds, "workers": given.workers}, facts=facts)


def measure(path: Path, workers: int) -> dict[str, Any]:
    """Run a study by workers and then its runs one by one."""
    total = run_study(path, workers)
    runs = find_runs(path.parent / "runs" / "tiny")
    training, evaluating = np.sum([seconds_of(run) for run in runs], axis=0).tolist()
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "lrlab", "report", "runs/tiny"], cwd=path.parent, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    report = time.perf_counter() - started
    differing, started = {}, time.perf_counter()
    members = study_members(read_study(path), path.parent / "alone")
    for member in members:
        list(Experiment(member.config).run(member.directory))
    alone = time.perf_counter() - started
    for member in members:
        other = path.parent / "runs" / "tiny" / member.arm / f"seed{member.seed}"
        if found := differences(member.directory, other):
            differing[member.name] = found
    return {
        "runs": len(runs),
        "complete": sum(run.status == "complete" for run in runs),
        "seconds": total,
        "train_seconds": training,
        "evaluation_seconds": evaluating,
        "report_seconds": report,
        "one_by_one_seconds": alone,
        "differing": differing,
    }


def page(rounds: list[dict[str, Any]], workers: int, steps: int) -> str:
    """One row for each round."""
    rows = []
    for number, one in enumerate(rounds, start=1):
        whole = workers * one["seconds"]
        rows.append(
            [
                str(number),
                f"{one['complete']} of {one['runs']}",
                digits(one["seconds"]),
                f"{one['train_seconds'] / whole:.1%}",
                f"{one['evaluation_seconds'] / whole:.1%}",
                f"{one['report_seconds'] / one['seconds']:.1%}",
                f"{one['train_seconds'] / (workers * (one['seconds'] - one['report_seconds'])):.1%}",
                digits(one["one_by_one_seconds"]),
                str(len(one["differing"])),
            ]
        )
    about = f"Runs of {steps} updates, on {workers} workers of one thread. {NOTE}"
    return f"{table(HEADER, rows)}\n\n{about}"


if __name__ == "__main__":
    main()
