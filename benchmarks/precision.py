"""Whether bfloat16 costs accuracy: paired seeds of one study, trained in both arithmetics for as many updates.

    lrlab study studies/precision.toml
    python benchmarks/precision.py runs/precision

The interval is Student's, for the mean of the paired differences: a cost within it could have been missed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scipy import stats

from lrlab.runs import find_runs
from measuring import machine, publish, table

TITLE = "Accuracy in bfloat16 and in float32"
ARMS = ("fp32", "bf16")


def accuracies(path: Path) -> dict[int, tuple[float, float]]:
    """Seed -> test accuracy at the end in fp32 and in bf16."""
    runs = find_runs(path)
    if unfinished := [str(run.directory) for run in runs if run.status != "complete"]:
        raise SystemExit(f"not complete: {', '.join(unfinished)}. Finish the study first.")
    found = {(run.arm, run.seed): float(run.result["test_accuracy"]) for run in runs}
    seeds = sorted({seed for _, seed in found})
    if missing := [f"{arm} seed {seed}" for seed in seeds for arm in ARMS if (arm, seed) not in found]:
        raise SystemExit(f"missing: {', '.join(missing)}. Finish the study first.")
    return {seed: (found["fp32", seed], found["bf16", seed]) for seed in seeds}


def summarise(found: dict[int, tuple[float, float]]) -> dict[str, float]:
    """Mean of bf16 minus fp32 with its 95 % interval, in points of accuracy, and its p."""
    exact, rounded = zip(*found.values(), strict=True)
    test = stats.ttest_rel(rounded, exact)
    interval = test.confidence_interval(0.95)
    differences = [100 * (other - one) for one, other in found.values()]
    return {
        "n": len(found),
        "mean": sum(differences) / len(differences),
        "low": 100 * float(interval.low),
        "high": 100 * float(interval.high),
        "p": float(test.pvalue),
        "std_of_seeds_fp32": 100 * float(stats.tstd(exact)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    path = parser.parse_args().study
    found = accuracies(path)
    figures = summarise(found)
    rows = [
        [str(seed), f"{100 * exact:.2f}", f"{100 * rounded:.2f}", f"{100 * (rounded - exact):+.2f}"]
        for seed, (exact, rounded) in found.items()
    ]
    page = (
        f"{table(['seed', 'fp32, %', 'bf16, %', 'difference'], rows)}\n\n"
        f"bf16 minus fp32, mean of {figures['n']} paired seeds: {figures['mean']:+.2f} points, 95 % interval "
        f"{figures['low']:+.2f} to {figures['high']:+.2f} (p = {figures['p']:.2f}). Seeds alone differ by a standard "
        f"deviation of {figures['std_of_seeds_fp32']:.2f} points in fp32."
    )
    print(page)
    runs = find_runs(path)
    document = {"summary": figures, "accuracies": found, "config": dict(runs[0].config)}
    publish("precision", title=TITLE, page=page, document=document, facts=machine(runs))


if __name__ == "__main__":
    main()
