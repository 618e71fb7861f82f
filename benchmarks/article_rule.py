"""When the article's rule decays, and whether its multipliers 0.5 and 0.2 differ beyond what seeds alone do.

    lrlab study studies/article-seeds.toml
    python benchmarks/article_rule.py runs/article-seeds

Prints the figures and writes them, with the single runs, to benchmarks/results/, and the picture to docs/figures/.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from lrlab.runs import Run, find_runs
from measuring import environment, hardware

ROOT = Path(__file__).parents[1]
ARMS = ("multiplier-0.5", "multiplier-0.2")
COLOURS = {"multiplier-0.5": "#7b3294", "multiplier-0.2": "#0571b0"}
NUM_RESAMPLES = 99_999
GROUPS = ("stem", "layer1", "layer2", "layer3", "layer4", "linear")
QUANTITIES = ("grad_l2", "grad_rms", "grad_out_l2", "grad_out_rms")
EARLY, LATE = (1000, 3000), (8000, 10_000)


def decays(run: Run) -> list[int]:
    return [record["step"] for record in run.decisions() if record["decision"] == "decay"]


def collect(path: Path) -> dict[str, dict[int, dict[str, object]]]:
    """Arm -> seed -> what came of the run."""
    found: dict[str, dict[int, dict[str, object]]] = {arm: {} for arm in ARMS}
    for run in find_runs(path):
        if run.status != "complete":
            raise SystemExit(f"{run.directory} is {run.status}: finish the study first.")
        found[run.arm][run.seed] = {"decays": decays(run), "accuracy": run.result["test_accuracy"]}
    return found


def paired_difference(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Mean of other - one, its bootstrap interval, and the p of a sign-flip test that nothing differs."""
    difference = other - one

    def mean(sample: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.mean(sample, axis=axis)

    generator = np.random.default_rng(0)
    interval = stats.bootstrap((difference,), mean, n_resamples=NUM_RESAMPLES, rng=generator).confidence_interval
    test = stats.permutation_test(
        (difference,), mean, permutation_type="samples", n_resamples=NUM_RESAMPLES, rng=generator
    )
    return {
        "mean": float(difference.mean()),
        "low": float(interval.low),
        "high": float(interval.high),
        "p_sign_flip": float(test.pvalue),
        "std_of_differences": float(difference.std(ddof=1)),
        "num_equal": int((difference == 0).sum()),
    }


def summarise(found: dict[str, dict[int, dict[str, object]]], horizon: int) -> dict[str, object]:
    seeds = sorted(found[ARMS[0]])
    assert all(sorted(found[arm]) == seeds for arm in ARMS), "the arms are paired by seed"
    accuracy = {arm: np.array([found[arm][seed]["accuracy"] for seed in seeds]) for arm in ARMS}
    # a run without a decay is counted as if it came at the horizon, the earliest that it can have come
    first = {arm: np.array([(found[arm][s]["decays"] or [horizon])[0] for s in seeds], float) for arm in ARMS}
    pooled_first = np.concatenate([first[arm] for arm in ARMS])
    pooled_accuracy = np.concatenate([accuracy[arm] for arm in ARMS])
    rank = stats.spearmanr(pooled_first, pooled_accuracy)
    return {
        "num_seeds": len(seeds),
        "horizon": horizon,
        "arms": {
            arm: {
                "first_decay": quartiles(first[arm]),
                "no_decay": sum(not found[arm][seed]["decays"] for seed in seeds),
                "second_decay": sum(len(found[arm][seed]["decays"]) > 1 for seed in seeds),
                "third_decay": sum(len(found[arm][seed]["decays"]) > 2 for seed in seeds),
                "updates_from_first_to_second": quartiles(gaps(found[arm])),
                "accuracy_mean": float(accuracy[arm].mean()),
                "accuracy_std": float(accuracy[arm].std(ddof=1)),
            }
            for arm in ARMS
        },
        "accuracy_0.2_minus_0.5": paired_difference(accuracy[ARMS[0]], accuracy[ARMS[1]]),
        "first_decay_0.2_minus_0.5": paired_difference(first[ARMS[0]], first[ARMS[1]]),
        "single_runs_that_mislead": misleading(first, accuracy),
        "spearman_first_decay_and_accuracy": {"rho": float(rank.statistic), "num_runs": len(pooled_first)},
    }


def misleading(first: dict[str, np.ndarray], accuracy: dict[str, np.ndarray]) -> dict[str, float]:
    """Share of the pairs of one run an arm, with different seeds, in which 0.5 comes out above 0.2."""
    others = ~np.eye(len(first[ARMS[0]]), dtype=bool)
    return {
        "first_decay_later_with_0.5": float((first[ARMS[0]][:, None] > first[ARMS[1]][None, :])[others].mean()),
        "accuracy_higher_with_0.5": float((accuracy[ARMS[0]][:, None] > accuracy[ARMS[1]][None, :])[others].mean()),
        "num_pairs": int(others.sum()),
    }


def gaps(runs: dict[int, dict[str, object]]) -> np.ndarray:
    return np.array([steps[1] - steps[0] for run in runs.values() if len(steps := run["decays"]) > 1], float)


def quartiles(values: np.ndarray) -> dict[str, float] | None:
    if not len(values):
        return None
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"n": len(values), "low": float(low), "median": float(middle), "high": float(high),
            "min": float(values.min()), "max": float(values.max())}  # fmt: skip


def gradient_table(runs: list[Run]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Quantity -> group -> geometric mean over seeds, with its 95 % bootstrap interval: late, and late over early.

    Each seed counts once, with the mean of the logarithm over the measurements of a stretch of updates.
    """
    table: dict[str, dict[str, dict[str, list[float]]]] = {}
    for quantity in QUANTITIES:
        table[quantity] = {}
        for group in GROUPS:
            early, late = (
                np.array([mean_log(run, f"{quantity}/{group}", stretch) for run in runs]) for stretch in (EARLY, LATE)
            )
            table[quantity][group] = {"late": with_interval(late), "late_over_early": with_interval(late - early)}
    return table


def mean_log(run: Run, column: str, stretch: tuple[int, int]) -> float:
    steps, values = run.series(column)
    return float(np.log(values[(steps > stretch[0]) & (steps <= stretch[1])]).mean())


def with_interval(logs: np.ndarray) -> list[float]:
    interval = stats.bootstrap((logs,), np.mean, n_resamples=9_999, rng=np.random.default_rng(0)).confidence_interval
    return [float(np.exp(value)) for value in (logs.mean(), interval.low, interval.high)]


def draw(found: dict[str, dict[int, dict[str, object]]], horizon: int) -> Figure:
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    when, against = figure.subplots(1, 2, width_ratios=[3, 2])
    for arm, offset, marker in zip(ARMS, (0.17, -0.17), ("o", "s"), strict=True):
        for seed, run in found[arm].items():
            when.plot([0, horizon], [seed + offset] * 2, color="0.9", lw=0.6, zorder=0)
            when.plot(run["decays"], [seed + offset] * len(run["decays"]), marker, ms=5, color=COLOURS[arm], lw=0)
        when.plot([], [], marker, color=COLOURS[arm], label=arm, lw=0)
        first = [(run["decays"] or [horizon])[0] for run in found[arm].values()]
        against.plot(
            first, [100 * run["accuracy"] for run in found[arm].values()], marker, color=COLOURS[arm], alpha=0.8, lw=0
        )
    when.set(xlabel="update", ylabel="seed", title="Decays of the rate", xlim=(0, horizon * 1.02))
    when.set_yticks(range(len(found[ARMS[0]])))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    against.set(xlabel="update of the first decay", ylabel="test accuracy at the end, %", title="And what came of it")
    for axes in (when, against):
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_formatter("{x:,.0f}")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    path = parser.parse_args().study
    found = collect(path)
    runs = find_runs(path)
    run = runs[0]
    summary = summarise(found, int(run.config["steps"]))
    summary["gradients"] = {arm: gradient_table([run for run in runs if run.arm == arm]) for arm in ARMS}
    summary["environment"] = {
        key: run.info["environment"][key] for key in ("python", "packages", "processor", "num_cpus")
    }
    print(json.dumps(summary, indent=2))
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    facts = environment()
    target = results / f"article-rule_{hardware(facts)}_{facts['date'][:7].replace('-', '')}.json"
    target.write_text(json.dumps({"summary": summary, "runs": found}, indent=1) + "\n")
    figures = ROOT / "docs" / "figures"
    figures.mkdir(exist_ok=True)
    draw(found, int(run.config["steps"])).savefig(figures / "article-rule.png", dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main()
