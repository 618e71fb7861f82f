"""How long training takes to a test accuracy of 90 % and of 94 %: the article's recipe beside others.

    python benchmarks/time_to_accuracy.py runs/article runs/fast
    python benchmarks/time_to_accuracy.py studies/article-full.toml studies/fast.toml --max-minutes 60 --data-dir data

Reads runs and studies that are there; a study file is run first, each of its runs for so many minutes at the most. A
target counts as reached at the first evaluation that shows it, with the network as it is, and with the mean of its
answers to the image and its mirror image where evaluations record that. The first arm, in the order of the paths and
then by name, is what the others are compared with; where it was stopped before the target there is a bound. Seconds are
a user's: what the first updates cost once, on a GPU cuDNN's initialisation, is in them.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lrlab.config import merge, parse_config, read_study, to_table
from lrlab.experiments import Evaluated, Experiment
from lrlab.runs import Run, RunError, find_runs, read_run
from lrlab.runs.storage import STUDY, write_whole
from lrlab.studies import study_members
from lrlab.training import DivergedError
from measuring import digits, machine, publish, spread, table, with_range

TITLE = "Time to an accuracy"
TARGETS = (0.90, 0.94)
ANSWERS = ("plain", "mirror-averaged")
QUICK_STEPS = 40


def accuracy(record: Mapping[str, Any], answers: str) -> float:
    """Accuracy of an evaluation; -inf where it has none of the kind."""
    found = record if answers == "plain" else record.get("mirror")
    return -math.inf if found is None else float(found["accuracy"])


def reached(run: Run, target: float, answers: str) -> dict[str, float] | None:
    """When a run first showed an accuracy: seconds of training, with evaluations too, and epochs; None if never."""
    for record in run.evaluations():
        if accuracy(record, answers) >= target:
            return {
                "seconds": record["seconds"],
                "seconds_with_evaluations": record["seconds"] + record["evaluation_seconds"],
                "epochs": record["step"] / steps_per_epoch(run),
            }
    return None


def steps_per_epoch(run: Run) -> int:
    """Updates of one pass over the training images."""
    return int(run.info["data"]["num_train"]) // int(run.config["batch_size"])


def describe(run: Run) -> dict[str, Any]:
    """What came of one run, by what was evaluated: best accuracy, and when each target was reached."""
    records = run.evaluations()
    found: dict[str, Any] = {
        "arm": run.arm,
        "seed": run.seed,
        "status": run.status,
        "train_seconds": run.result["train_seconds"],
        "epochs": run.result["epochs"],
        "engine": run.info["engine"],
        "answers": {},
    }
    for name in ANSWERS:
        best = max((accuracy(record, name) for record in records), default=-math.inf)
        if best > -math.inf:  # something of the kind was recorded
            targets = {str(target): reached(run, target, name) for target in TARGETS}
            found["answers"][name] = {"best": best, "targets": targets}
    return found


def times_as_fast(
    first: Mapping[str, Any], other: Mapping[str, Any], name: str, target: str
) -> tuple[float, bool] | None:
    """How many times sooner a run reached a target than the first arm's of its seed, and whether that is a bound."""
    theirs = first["answers"][name]["targets"][target] if name in first["answers"] else None
    ours = other["answers"][name]["targets"][target]
    if ours is None:
        return None
    return (theirs["seconds"] if theirs else first["train_seconds"]) / ours["seconds"], theirs is None


def row_of(
    runs: Sequence[Mapping[str, Any]], firsts: Mapping[int, Mapping[str, Any]], name: str, target: str
) -> list[str]:
    """One row of the table: an arm, one kind of answers and one target."""
    found = [run["answers"][name] for run in runs]
    there = [one["targets"][target] for one in found if one["targets"][target]]
    times = [times_as_fast(firsts[run["seed"]], run, name, target) for run in runs if run["seed"] in firsts]
    known = [one for one in times if one]
    if not there:
        reached_in = [f"not within {digits(min(run['train_seconds'] for run in runs) / 60)}", "", ""]
    else:
        reached_in = [
            with_range([one["seconds"] / 60 for one in there]),
            with_range([one["seconds_with_evaluations"] / 60 for one in there]),
            with_range([one["epochs"] for one in there]),
        ]
    bound = "> " if any(is_bound for _, is_bound in known) else ""
    faster = bound + digits(spread([value for value, _ in known])["median"]) if known else ""
    best = with_range([100 * one["best"] for one in found])
    return [runs[0]["arm"], name, f"{float(target):.0%}", f"{len(there)} of {len(runs)}", *reached_in, best, faster]


def page(described: Sequence[Mapping[str, Any]]) -> str:
    """One row for each arm, kind of answers and target."""
    arms = list(dict.fromkeys(run["arm"] for run in described))
    by_arm = {arm: [run for run in described if run["arm"] == arm] for arm in arms}
    firsts = {run["seed"]: run for run in by_arm[arms[0]]}
    rows = [
        row_of(runs, firsts if runs is not by_arm[arms[0]] else {}, name, str(target))
        for runs in by_arm.values()
        for name in ANSWERS
        if all(name in run["answers"] for run in runs)
        for target in TARGETS
    ]
    header = [
        "arm",
        "answers",
        "target",
        "reached",
        "minutes",
        "with evaluations",
        "epochs",
        "best, %",
        "as fast",
    ]
    return (
        f"{table(header, rows)}\n\nMinutes of training to the first evaluation at or above the target, those of the "
        "evaluations left out and then with them; medians over the runs that reached it, in brackets the least and the "
        f"largest. As fast: so many times as the run of the same seed of {arms[0]}; > where that one was stopped "
        "before the target."
    )


def advance(study_file: Path, options: argparse.Namespace) -> Path:
    """Run what a study has not run yet, each run for so many minutes, and return the study's folder."""
    study = read_study(study_file)
    folder = Path(options.root / study.name)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / STUDY, study_file.read_bytes())  # marks it as a study, for whoever reads its runs
    for member in study_members(study, options.root):
        with contextlib.suppress(RunError):  # there is none yet
            if read_run(member.directory).status in ("complete", "diverged"):
                continue
        data = {"dir": str(options.data_dir)} if options.data_dir else {}
        shorter = {"steps": QUICK_STEPS, "evaluate": {"every": QUICK_STEPS // 2}} if options.quick else {}
        config = parse_config(merge(to_table(member.config), {"data": data, **shorter}))
        experiment = Experiment(config)
        print(f"{study.name}/{member.arm}, seed {member.seed}: {experiment.summary()}", flush=True)
        deadline = time.perf_counter() + 60 * options.max_minutes
        with (
            contextlib.suppress(DivergedError),
            contextlib.closing(experiment.run(member.directory, resumes=True)) as events,
        ):
            for event in events:
                if isinstance(event, Evaluated):
                    print(f"  update {event.step:,}: {event.evaluation.accuracy:.2%}", flush=True)
                if time.perf_counter() > deadline:
                    break
    return folder


def read_options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("paths", type=Path, nargs="+", help="runs, studies that were run, or study files")
    made.add_argument("--root", type=Path, default=Path("runs"), help="folder of the studies' folders [runs]")
    made.add_argument("--data-dir", type=Path, help="folder with the images, for study files")
    made.add_argument("--max-minutes", type=float, default=math.inf, help="of each run of a study file [no end]")
    made.add_argument("--quick", action="store_true", help="some updates of each run; nothing is written")
    return made.parse_args()


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory() as folder:
        options.root = Path(folder) if options.quick else options.root
        paths = [advance(path, options) if path.suffix == ".toml" else path for path in options.paths]
        runs = [run for path in paths for run in find_runs(path)]
        if unfinished := [str(run.directory) for run in runs if not run.result]:
            raise SystemExit(f"Not over yet: {', '.join(unfinished)}.")
        described = [describe(run) for run in runs]
    text = page(described)
    print(text)
    if not options.quick:
        publish("time-to-accuracy", title=TITLE, page=text, document={"runs": described}, facts=machine(runs))


if __name__ == "__main__":
    main()
