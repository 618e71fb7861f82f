"""How often `lrlab compare` calls a schedule different from itself, on real runs.

    python benchmarks/aa.py

One arm is run with many seeds on real 8x8 digits, by the code of `lrlab study` on two workers. Ten runs each then make
a study of two arms that are the same schedule, with five pairs: other seeds, paired by their position, as if they were
seeds 0 to 4 of both. `lrlab compare` reads those folders as it reads any. Every run is in one study alone, so the
studies are independent. `--keep FOLDER` keeps the runs, and goes on with those that are there.

`benchmarks/comparison.py` asks the same of accuracies that are drawn, of which there can be many more.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from comparison import share, written
from lrlab.compare import Difference, compare_runs, statistics
from lrlab.config import read_study
from lrlab.runs import Run, find_runs
from lrlab.runs.storage import CONFIG, INFO, STUDY
from lrlab.studies import Ended, run_study
from measuring import digits, environment, publish, table

TITLE = "A schedule against itself, on real runs"
NUM_PAIRS = 5
RUNS_OF_A_STUDY = 2 * NUM_PAIRS
ARMS = ("once", "again")
NUM_SHUFFLES = 10
SIZES = (0.5, 1.0, statistics.detectable_difference(NUM_PAIRS))
"""Differences that are planted, in standard deviations of the paired differences."""
PLAN = """
name = "aa"
seeds = {seeds}
[base]
steps = {steps}
batch_size = 32
model.width = 4
evaluate.every = 100000
engine.threads = 1
[arms]
cosine = {{ schedule.name = "cosine" }}
"""

Order = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """What the comparison says of one study."""

    verdict: str
    p: float | None


def make_runs(folder: Path, *, num_runs: int, steps: int, workers: int) -> list[Run]:
    """Run the arm with seeds 0, 1, ..., as far as it is not there; the runs by seed."""
    plan = folder / "aa.toml"
    plan.write_text(PLAN.format(seeds=list(range(num_runs)), steps=steps))
    num_ended = 0
    for _, event in run_study(read_study(plan), plan, root=folder, workers=workers):
        if isinstance(event, Ended):
            num_ended += 1
            if num_ended % 100 == 0:
                print(f"{num_ended} of {num_runs} runs", flush=True)
    return sorted(find_runs(folder / "aa"), key=lambda run: run.seed)[:num_runs]


def lay_out(runs: Sequence[Run], order: Order, folder: Path, *, added: float = 0.0) -> list[Path]:
    """Write studies of two arms, of the two files of each run that a comparison reads.

    Args:
        runs: of one arm, with different seeds.
        order: indices of runs, RUNS_OF_A_STUDY for each study: those of the first arm, then those of the second.
        folder: of the studies' folders.
        added: to the accuracies of the second arm.
    """
    studies = []
    for number, members in enumerate(order.reshape(-1, len(ARMS), NUM_PAIRS)):
        studies.append(folder / f"study{number}")
        for arm, indices, more in zip(ARMS, members, (0.0, added), strict=True):
            for seed, index in enumerate(indices):
                target = studies[-1] / arm / f"seed{seed}"
                target.mkdir(parents=True)
                _copy(runs[index], target, seed=seed, added=more)
        (studies[-1] / STUDY).touch()
    return studies


def _copy(run: Run, target: Path, *, seed: int, added: float) -> None:
    text, num_seeds = re.subn(r"(?m)^seed = \d+$", f"seed = {seed}", (run.directory / CONFIG).read_text())
    assert num_seeds == 1, run.directory
    (target / CONFIG).write_text(text)
    accuracy = run.result["test_accuracy"]
    result = {**run.result, "test_accuracy": None if accuracy is None else accuracy + added}
    (target / INFO).write_text(json.dumps({**run.info, "result": result}))


def compared(studies: Sequence[Path]) -> list[Found]:
    """What the comparison says of each study."""
    return [_found(*compare_runs(find_runs(study)).differences) for study in studies]


def _found(difference: Difference) -> Found:
    return Found(difference.verdict, difference.p)


def compared_in(runs: Sequence[Run], order: Order, *, added: float = 0.0) -> list[Found]:
    """Lay studies out where they leave no trace, and compare the arms of each."""
    with tempfile.TemporaryDirectory() as folder:
        return compared(lay_out(runs, order, Path(folder), added=added))


def alarms(found: Sequence[Found]) -> dict[str, float]:
    """Share of studies that are called different."""
    return share(sum(one.verdict == "different" for one in found), len(found))


def orders(num_runs: int) -> list[Order]:
    """That of the seeds, and further ones in which other runs are paired."""
    generator = np.random.default_rng(0)
    return [np.arange(num_runs), *(generator.permutation(num_runs) for _ in range(NUM_SHUFFLES))]


def measure(runs: Sequence[Run]) -> dict[str, Any]:
    """Everything, by what it is."""
    accuracies = np.array([run.result["test_accuracy"] for run in runs if run.status == "complete"])
    std = float(accuracies.std(ddof=1)) * 2**0.5  # of a difference between two runs
    first, *others = orders(len(runs))
    found = compared_in(runs, first)
    p_values = [one.p for one in found if one.p is not None]
    test = stats.kstest(p_values, "uniform")
    return {
        "runs": len(runs),
        "complete": len(accuracies),
        "accuracies": accuracies.tolist(),
        "train_seconds": [run.result["train_seconds"] for run in runs],
        "verdicts": dict(Counter(one.verdict for one in found)),
        "p_values": p_values,
        "alarms": alarms(found),
        "alarms_raw": share(sum(p <= statistics.LEVEL for p in p_values), len(found)),
        "uniform": {"statistic": float(test.statistic), "p": float(test.pvalue)},
        "alarms_shuffled": [alarms(compared_in(runs, order)) for order in others],
        "planted": [
            {"size": size, "predicted": float(statistics.power(size, NUM_PAIRS))}
            | {"first": alarms(compared_in(runs, first, added=size * std))}
            | {"shuffled": [alarms(compared_in(runs, order, added=size * std)) for order in others]}
            for size in SIZES
        ],
    }


def page(found: dict[str, Any], steps: int) -> str:
    """The tables."""
    deciles = np.histogram(found["p_values"], bins=10, range=(0, 1))[0]
    accuracies = 100 * np.array(found["accuracies"])
    rows = [
        ["the same schedule", written(found["alarms"]), _mean(found["alarms_shuffled"]), "at most 5"],
        *(
            [
                f"{one['size']:.2f} std better",
                written(one["first"]),
                _mean(one["shuffled"]),
                f"{100 * one['predicted']:.1f}",
            ]
            for one in found["planted"]
        ),
    ]
    shuffled = f"other pairings, {len(found['alarms_shuffled'])} times"
    return (
        f"{found['complete']:,} of {found['runs']:,} runs complete, of {steps} updates and "
        f"{digits(float(np.median(found['train_seconds'])))} s of training each; accuracy {accuracies.mean():.2f} % on "
        f"360 images, standard deviation {accuracies.std(ddof=1):.2f} points between seeds.\n\n"
        f"Per cent of {found['alarms']['total']} studies, each of two arms and {NUM_PAIRS} pairs, that are called "
        "different; in brackets the exact 95 % interval (Clopper and Pearson). The pairs share no seed, so nothing "
        "that runs of one seed have in common narrows their differences.\n\n"
        f"{table(['second arm', 'called different, %', shuffled, 'promised or predicted, %'], rows)}\n\n"
        f"By the p value alone, at 0.05: {written(found['alarms_raw'])} %; with one pair of arms nothing is adjusted. "
        f"Verdicts: {', '.join(f'{name} {count}' for name, count in found['verdicts'].items())}. "
        f"p values from 0 to 1 by tenths: {', '.join(map(str, deciles))}; Kolmogorov and Smirnov's test against the "
        f"uniform distribution: D = {found['uniform']['statistic']:.3f}, p = {found['uniform']['p']:.2f}.\n\n"
        "Other pairings make studies of the same runs in random order. They are not independent of each other nor of "
        "the first, so their mean has no interval.\n\n"
        "The rows of a better arm are a simulation on real scatter: a constant is added to the accuracies of the "
        "second arm, in standard deviations of the paired differences of all runs. Predicted is the power that "
        "`lrlab.compare` states for normal differences."
    )


def _mean(shares: Sequence[dict[str, float]]) -> str:
    return f"{100 * np.mean([one['share'] for one in shares]):.1f}"


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="tiny, to see that the script works; nothing is written")
    made.add_argument("--runs", type=int, default=1000, help=f"runs, {RUNS_OF_A_STUDY} for each study [1000]")
    made.add_argument("--steps", type=int, default=150, help="updates of a run [150]")
    made.add_argument("--workers", type=int, default=2, help="processes [2]")
    made.add_argument("--keep", type=Path, metavar="FOLDER", help="folder of the runs, kept [a temporary one]")
    given = made.parse_args()
    num_runs, steps = (2 * RUNS_OF_A_STUDY, 5) if given.quick else (given.runs, given.steps)
    if num_runs % RUNS_OF_A_STUDY:
        made.error(f"--runs must be a multiple of {RUNS_OF_A_STUDY}, got {num_runs}")
    facts = environment()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(make_runs(folder, num_runs=num_runs, steps=steps, workers=given.workers))
    text = page(found, steps)
    print(text)
    if not given.quick:
        publish("aa", title=TITLE, page=text, document=found | {"steps": steps}, facts=facts)


if __name__ == "__main__":
    main()
