"""How much of a study's time is training, and whether its runs are those that one by one would give.

    python benchmarks/studies.py

A study of many tiny runs on real 8x8 digits goes by `lrlab study --workers`, from typing it to its report; each run
trains for a few seconds, so that what a run costs beside training weighs as much as it ever will. The same runs are
then made one by one in this process, and compared byte by byte: weights, rows, pictures, and every evaluation and
decision.
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
from lrlab.runs.storage import CONFUSION, METRICS
from lrlab.studies import study_members
from measuring import digits, environment, parser, publish, table

TITLE = "Time and exactness of a study"
NUM_ARMS = 2
HEADER = (
    "",
    "seconds",
    "updates",
    "evaluations",
    "both",
    "start",
    "the rest",
)
NOTE = (
    "Shares are of workers times seconds. Updates: up to the evaluation at the end of each run, with the recording of "
    "every update. Evaluations: but for their pictures. Start: until the first run begins, mostly PyTorch and "
    "scikit-learn being loaded. The rest: opening and closing of runs, in which the disk is waited for some twenty "
    "times; pictures; a worker that has nothing left to do; in the whole command the report, which one process makes."
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


def run_study(path: Path, workers: int) -> dict[str, float]:
    """Seconds of the whole command, until its first run began, and until its last one ended."""
    began, started = time.time(), time.perf_counter()
    command = [sys.executable, "-m", "lrlab", "study", path.name, "--workers", str(workers)]
    subprocess.run(command, cwd=path.parent, stdout=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - started
    runs = path.parent / "runs" / "tiny"
    opened = min(found.stat().st_mtime for found in runs.glob("*/seed*/config.toml"))
    closed = max(found.stat().st_mtime for found in runs.glob("*/seed*/run.json"))
    return {"seconds": seconds, "start_seconds": opened - began, "runs_seconds": closed - began}


def seconds_of(run: Run) -> tuple[float, float]:
    """Seconds of updates, and of evaluations but for their pictures."""
    last = run.evaluations()[-1]
    return last["seconds"], last["evaluation_seconds"]


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two runs: weights, rows, pictures, evaluations, decisions."""
    weights = [sound_checkpoints(path)[0].files["model.safetensors"] for path in (one, other)]
    found = [] if weights[0] == weights[1] else ["weights"]
    for folder in (METRICS, CONFUSION):
        contents = [{file.name: file.read_bytes() for file in (path / folder).iterdir()} for path in (one, other)]
        found += [] if contents[0] == contents[1] else [folder]
    made, again = read_run(one), read_run(other)
    found += [] if _timeless(made) == _timeless(again) else ["evaluations"]
    return found + ([] if made.decisions() == again.decisions() else ["decisions"])


def _timeless(run: Run) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in record.items() if not name.endswith("seconds")} for record in run.evaluations()
    ]


def main() -> None:
    options = parser(__doc__, repeats=1)
    options.add_argument("--runs", type=int, default=100, help="runs of the study [100]")
    options.add_argument("--steps", type=int, default=1000, help="updates of a run [1000]")
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
    times = run_study(path, workers)
    runs = find_runs(path.parent / "runs" / "tiny")
    updating, evaluating = np.sum([seconds_of(run) for run in runs], axis=0).tolist()
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
        **times,
        "runs": len(runs),
        "complete": sum(run.status == "complete" for run in runs),
        "update_seconds": updating,
        "evaluation_seconds": evaluating,
        "one_by_one_seconds": alone,
        "differing": differing,
    }


def shares(found: dict[str, Any], seconds: float, workers: int) -> dict[str, float]:
    """What the workers' time went to, in so many seconds from the beginning."""
    spent = {name: found[f"{name}_seconds"] for name in ("update", "evaluation")}
    spent = {name: value / workers for name, value in spent.items()} | {"start": found["start_seconds"]}
    return {name: value / seconds for name, value in spent.items()}


def page(rounds: list[dict[str, Any]], workers: int, steps: int) -> str:
    """Two rows for each round, and whether the runs are the same."""
    rows, lines = [], []
    for number, one in enumerate(rounds, start=1):
        for what, seconds in (("whole command", one["seconds"]), ("to the end of the last run", one["runs_seconds"])):
            part = shares(one, seconds, workers)
            both = part["update"] + part["evaluation"]
            figures = (part["update"], part["evaluation"], both, part["start"], 1 - both - part["start"])
            rows.append([f"{number}: {what}", digits(seconds), *(f"{figure:.1%}" for figure in figures)])
        num_runs, num_differing = one["runs"], len(one["differing"])
        beside = workers * (one["runs_seconds"] - one["start_seconds"])
        beside -= one["update_seconds"] + one["evaluation_seconds"]
        lines.append(
            f"Round {number}: {one['complete']} of {num_runs} runs complete, each with "
            f"{digits(one['update_seconds'] / num_runs)} s of updates and {digits(1000 * beside / num_runs)} ms beside "
            f"training. One by one in one process they took {digits(one['one_by_one_seconds'])} s; "
            f"{num_differing} of {num_runs} differ from those of the study, byte by byte."
        )
    return "\n\n".join(
        (table(HEADER, rows), *lines, f"Runs of {steps:,} updates, on {workers} workers of one thread. {NOTE}")
    )


if __name__ == "__main__":
    main()
