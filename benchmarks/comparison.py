"""Whether `lrlab compare` keeps what its numbers promise, on simulated studies whose truth is known.

    python benchmarks/comparison.py

- A/A: the same schedule against itself with other seeds, through the whole comparison: how often is any pair called
  different, which must be in at most 5 % of the studies?
- Power: a difference planted: is it found as often as the power says that the comparison predicts?
- Coverage: how often do the 95 % intervals hold the true difference, Student's and those it was chosen among?
- Scores: how often does the interval of AlgoPerf's score hold 1, where no arm is quicker than another?
- Tuning: how often are equally good schedules called different, each at the rate that so many tuning seeds chose?

Accuracies are drawn, not trained, so it takes minutes and its figures are the same on every machine.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from lrlab.compare import compare_runs, statistics, times
from lrlab.config import parse_config, to_table
from lrlab.runs import Run
from measuring import environment, publish, table

TITLE = "What a comparison's numbers keep"
SEEDS = (5, 10, 20)
TUNING_SEEDS = (1, 3, 5)
NUM_TEST_IMAGES = 360
"""Of the digits: accuracies come in steps of 0.28 points."""
MEAN, STD = 0.90, 0.01

Array = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def in_steps(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Accuracies on a small test set: the seed's own, and with it the luck of 360 images."""
    return generator.binomial(NUM_TEST_IMAGES, MEAN + STD * generator.normal(size=shape)) / NUM_TEST_IMAGES


NOISE: dict[str, Draw] = {
    "normal": lambda generator, shape: MEAN + STD * generator.normal(size=shape),
    "heavy tails": lambda generator, shape: MEAN + STD * generator.standard_t(3, size=shape),
    "skewed": lambda generator, shape: MEAN - STD * generator.exponential(size=shape),
    "360 images": in_steps,
}
"""How accuracies of one arm scatter over seeds."""
WHOLE = ("normal", "360 images")
"""Those that go through the whole comparison, which takes longer than its tests."""

DIFFERENCES: dict[str, Draw] = {
    "normal": lambda generator, shape: generator.normal(size=shape),
    "heavy tails": lambda generator, shape: generator.standard_t(3, size=shape),
    "both arms skewed": lambda generator, shape: generator.exponential(size=shape) - generator.exponential(size=shape),
    "one arm skewed, the other half as wide": lambda generator, shape: (
        generator.exponential(size=shape) - 1 - 0.5 * generator.normal(size=shape)
    ),
    "skewed as an exponential": lambda generator, shape: generator.exponential(size=shape) - 1,
}
"""How paired differences scatter over seeds about their true mean, 0."""


def share(count: int, total: int) -> dict[str, float]:
    """A share with its exact 95 % interval."""
    found = stats.binomtest(int(count), int(total))
    low, high = found.proportion_ci(0.95)
    return {"count": int(count), "total": int(total), "share": found.statistic, "low": float(low), "high": float(high)}


def written(found: dict[str, float]) -> str:
    """Write a share in per cent with its interval."""
    return f"{100 * found['share']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def make_runs(accuracies: Array) -> list[Run]:
    """Runs as they are read, with these accuracies, (arms, seeds)."""
    config = to_table(parse_config({"steps": 10}))
    return [
        Run(
            Path("simulated") / f"arm{arm}-seed{seed}",
            {"status": "complete", "result": {"test_accuracy": float(value)}},
            {**config, "seed": seed},
        )
        for arm, row in enumerate(accuracies)
        for seed, value in enumerate(row)
    ]


def calls_any_different(accuracies: Array) -> bool:
    """Whether the whole comparison calls any pair different."""
    return any(found.verdict == "different" for found in compare_runs(make_runs(accuracies)).differences)


def false_alarms(noise: str, *, num_studies: int, num_arms: int = 3, num_seeds: int = 5) -> dict[str, float]:
    """Share of studies of one schedule against itself in which the whole comparison calls any pair different."""
    generator = np.random.default_rng(list(NOISE).index(noise))
    alarms = sum(calls_any_different(NOISE[noise](generator, (num_arms, num_seeds))) for _ in range(num_studies))
    return share(alarms, num_studies)


def false_alarms_of_tests(noise: str, *, num_arms: int, num_seeds: int, num_studies: int) -> dict[str, float]:
    """The same by the comparison's tests alone, which many more studies can afford."""
    generator = np.random.default_rng([num_arms, num_seeds, list(NOISE).index(noise)])
    accuracies = NOISE[noise](generator, (num_studies, num_arms, num_seeds))
    arms = list(combinations(range(num_arms), 2))
    differences = np.stack([accuracies[:, arm] - accuracies[:, other] for other, arm in arms], axis=1)
    return share(int(any_different(differences).sum()), num_studies)


def any_different(differences: Array) -> npt.NDArray[np.bool_]:
    """Whether any of the pairs of a study is called different, (studies, pairs, n) -> (studies,)."""
    alike = np.ptp(differences, axis=-1) < 1e-12
    floor = statistics.sign_flip_floor(differences.shape[-1])
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, where all differences are alike
        p_values = statistics.student_p(differences)
    p_values = np.where(alike, np.where(np.abs(differences[..., 0]) < 1e-12, 1.0, floor), p_values)
    return (statistics.holm(p_values) <= statistics.LEVEL).any(axis=-1)


def found_and_predicted(size: float, num_seeds: int, *, num_studies: int) -> dict[str, float]:
    """Share of studies that find a difference of so many standard deviations, beside the power predicted."""
    generator = np.random.default_rng([num_seeds, round(1000 * size)])
    differences = size + generator.normal(size=(num_studies, num_seeds))
    found = int((statistics.student_p(differences) <= statistics.LEVEL).sum())
    return share(found, num_studies) | {"predicted": float(statistics.power(size, num_seeds))}


def studentised_interval(differences: Array, *, num_resamples: int = 999) -> statistics.Interval:
    """Bootstrap-t interval of the mean: quantiles of (mean* - mean) / error* in place of Student's, (studies, n)."""
    num_seeds = differences.shape[-1]
    drawn = np.random.default_rng(0).integers(num_seeds, size=(num_resamples, num_seeds))
    resampled = differences[:, drawn]  # (studies, resamples, n)
    centre, error = differences.mean(-1), differences.std(-1, ddof=1) / np.sqrt(num_seeds)
    errors = resampled.std(-1, ddof=1) / np.sqrt(num_seeds)
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample of one value alone has no spread
        ratios = np.where(errors > 1e-12, (resampled.mean(-1) - centre[:, None]) / errors, np.nan)
    low, high = np.nanpercentile(ratios, [2.5, 97.5], axis=-1)
    return statistics.Interval(centre - high * error, centre - low * error)


def percentile_interval(differences: Array, *, num_resamples: int = 999) -> statistics.Interval:
    """Plain percentile bootstrap interval of the mean, (studies, n)."""
    num_seeds = differences.shape[-1]
    drawn = np.random.default_rng(0).integers(num_seeds, size=(num_resamples, num_seeds))
    return statistics.Interval(*np.percentile(differences[:, drawn].mean(-1), [2.5, 97.5], axis=-1))


def accelerated_interval(differences: Array) -> statistics.Interval:
    """That of `lrlab compare`, study by study."""
    each = [statistics.bootstrap_interval(row) for row in differences]
    return statistics.Interval(*(np.array(ends) for ends in zip(*each, strict=True)))


INTERVALS: dict[str, Callable[[Array], statistics.Interval]] = {
    "Student": statistics.student_interval,
    "bootstrap, BCa": accelerated_interval,
    "bootstrap, percentile": percentile_interval,
    "bootstrap-t": studentised_interval,
}


def coverage(name: str, scatter: str, num_seeds: int, *, num_studies: int) -> dict[str, float]:
    """Share of intervals that hold the true difference, and their median width beside Student's."""
    generator = np.random.default_rng([num_seeds, list(DIFFERENCES).index(scatter)])
    differences = DIFFERENCES[scatter](generator, (num_studies, num_seeds))
    blocks = [INTERVALS[name](block) for block in np.array_split(differences, max(1, num_studies // 200))]  # memory
    low, high = (np.concatenate(ends) for ends in zip(*blocks, strict=True))
    least, most = statistics.student_interval(differences)
    width = float(np.median((high - low) / (most - least)))
    return share(int(((low <= 0) & (high >= 0)).sum()), num_studies) | {"width_over_student": width}


def median_coverage(num_seeds: int, horizon: float, *, num_studies: int) -> dict[str, float]:
    """Share of intervals of a median time that hold it, runs that are slower than the horizon cut off there."""
    generator = np.random.default_rng(num_seeds)
    drawn = generator.lognormal(0.0, 0.5, size=(num_studies, num_seeds))  # true median 1
    held = 0
    for row in drawn:
        found = times.median_time(np.minimum(row, horizon), row < horizon)
        held += (found.low or 0.0) <= 1.0 <= (np.inf if found.high is None else found.high)
    return share(held, num_studies)


def null_scores(num_seeds: int, *, num_studies: int, num_arms: int = 3, num_tasks: int = 2) -> dict[str, Any]:
    """Shares of intervals that hold the true score 1, as no arm is quicker, and of studies in which one does not."""
    generator = np.random.default_rng(num_seeds)
    held = below = 0
    for _ in range(num_studies):
        shared = generator.normal(size=(num_tasks, 1, num_seeds))  # the seed's own, as long as the arm's
        updates = 600 * np.exp(0.2 * (shared + generator.normal(size=(num_tasks, num_arms, num_seeds))))
        looked_at = np.ceil(updates / 20) * 20
        found = times.profiles(
            {f"task{task}": {f"arm{arm}": row for arm, row in enumerate(rows)} for task, rows in enumerate(looked_at)}
        )
        holding = [profile.high is not None and profile.high >= 1 for profile in found]
        held, below = held + holding[0], below + (not all(holding))  # of one arm, since those of a study go together
    return {"holds": share(held, num_studies), "one_below": share(below, num_studies)}


def false_alarms_of_tuning(num_tuning_seeds: int, num_seeds: int, *, num_studies: int) -> dict[str, float]:
    """Share of studies that call two equally good schedules different, each at the best of three rates by its tuning.

    Two of the rates cost as much as runs of one rate scatter, half a point.
    """
    generator = np.random.default_rng([num_tuning_seeds, num_seeds])
    means, spread = np.array([-0.5, 0.0, -0.5]), 0.5

    def chosen() -> Array:
        seen = means + spread / np.sqrt(num_tuning_seeds) * generator.normal(size=(num_studies, len(means)))
        return means[seen.argmax(axis=1)]

    between = (chosen() - chosen())[:, None]
    differences = between + spread * np.sqrt(2) * generator.normal(size=(num_studies, num_seeds))
    return share(int((statistics.student_p(differences) <= statistics.LEVEL).sum()), num_studies)


def measure(*, num_studies: int, num_draws: int) -> dict[str, Any]:
    """Everything, by what it is."""
    return {
        "false_alarms": [{"noise": noise} | false_alarms(noise, num_studies=num_studies) for noise in WHOLE],
        "false_alarms_of_tests": [
            {"noise": noise, "num_arms": num_arms, "num_seeds": num_seeds}
            | false_alarms_of_tests(noise, num_arms=num_arms, num_seeds=num_seeds, num_studies=20 * num_draws)
            for noise in NOISE
            for num_arms, num_seeds in ((2, 2), (2, 3), (2, 5), (2, 20), (5, 5), (5, 20))
        ],
        "power": [
            {"size": size, "num_seeds": num_seeds} | found_and_predicted(size, num_seeds, num_studies=20 * num_draws)
            for num_seeds in SEEDS
            for size in (0.5, 1.0, statistics.detectable_difference(num_seeds), 2.0)
        ],
        "coverage": [
            {"interval": name, "scatter": scatter, "num_seeds": num_seeds}
            | coverage(name, scatter, num_seeds, num_studies=num_draws * (20 if name == "Student" else 1))
            for scatter in DIFFERENCES
            for name in INTERVALS
            for num_seeds in SEEDS
        ],
        "median_time": [
            {"num_seeds": num_seeds, "horizon": horizon} | median_coverage(num_seeds, horizon, num_studies=num_studies)
            for num_seeds in SEEDS
            for horizon in (np.inf, 1.4)
        ],
        "null_scores": [
            {"num_seeds": num_seeds} | null_scores(num_seeds, num_studies=num_studies) for num_seeds in SEEDS
        ],
        "tuning": [
            {"num_tuning_seeds": num_tuning_seeds, "num_seeds": num_seeds}
            | false_alarms_of_tuning(num_tuning_seeds, num_seeds, num_studies=20 * num_draws)
            for num_tuning_seeds in TUNING_SEEDS
            for num_seeds in SEEDS
        ],
    }


def page(found: dict[str, Any]) -> str:
    """The tables."""
    cells = {noise: [one for one in found["false_alarms_of_tests"] if one["noise"] == noise] for noise in NOISE}
    whole = {one["noise"]: written(one) for one in found["false_alarms"]}
    columns = [f"{one['num_arms']} x {one['num_seeds']}" for one in next(iter(cells.values()))]
    alarms = table(
        ["seeds alone scatter", *columns, "3 x 5, all of it"],
        [[noise, *map(written, cells[noise]), whole.get(noise, "")] for noise in NOISE],
    )
    power = table(
        ["seeds", "difference / std", "found, %", "predicted, %"],
        [
            [str(one["num_seeds"]), f"{one['size']:.2f}", written(one), f"{100 * one['predicted']:.1f}"]
            for one in found["power"]
        ],
    )
    rows = []
    for scatter in DIFFERENCES:
        for name in INTERVALS:
            cells = [one for one in found["coverage"] if (one["scatter"], one["interval"]) == (scatter, name)]
            widths = " / ".join(f"{one['width_over_student']:.2f}" for one in cells)
            rows.append([f"{scatter}: {name}", *map(written, cells), widths])
    intervals = table(["differences: interval", *(f"{n} seeds" for n in SEEDS), "width / Student's"], rows)
    medians = table(
        ["seeds", "all get there", "a quarter does not"],
        [[str(n), *(written(one) for one in found["median_time"] if one["num_seeds"] == n)] for n in SEEDS],
    )
    scores = table(
        ["seeds", "intervals that hold 1", "studies with one below 1"],
        [[str(one["num_seeds"]), written(one["holds"]), written(one["one_below"])] for one in found["null_scores"]],
    )
    rows = [
        [str(number), *(written(one) for one in found["tuning"] if one["num_tuning_seeds"] == number)]
        for number in TUNING_SEEDS
    ]
    tuning = table(["tuning seeds", *(f"{n} seeds" for n in SEEDS)], rows)
    num_studies, num_draws = found["false_alarms"][0]["total"], found["power"][0]["total"] // 20
    return (
        f"Per cent of the simulated studies, in brackets the exact 95 % interval.\n\n"
        f"**One schedule against itself**: studies in which any pair is called different, by the whole "
        f"comparison in {num_studies:,} studies, and by its tests alone in {20 * num_draws:,} (arms x seeds); at most "
        f"5 is promised.\n\n{alarms}\n\n"
        f"**A difference planted**: normal differences, {20 * num_draws:,} studies a row, one pair.\n\n{power}\n\n"
        f"**95 % intervals that hold the true difference**, {num_draws:,} studies a cell, {20 * num_draws:,} for "
        f"Student's; the median width for each number of seeds.\n\n{intervals}\n\n"
        f"**95 % intervals that hold the true median time to a target**, {num_studies:,} studies a cell.\n\n{medians}"
        f"\n\n**AlgoPerf's score of three arms none of which is quicker**, two tasks, {num_studies:,} studies a row: "
        f"the true score of each is 1.\n\n{scores}\n\n"
        f"**Two equally good schedules, each at the best of three rates by its tuning**, {20 * num_draws:,} studies a "
        f"cell, those that are called different: the other rates cost half a point, the spread of runs is half a "
        f"point.\n\n{tuning}"
    )


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--quick", action="store_true", help="few studies, to see that the script works; nothing is written"
    )
    options = made.parse_args()
    sizes = {"num_studies": 4, "num_draws": 10} if options.quick else {"num_studies": 1_000, "num_draws": 1_000}
    facts = environment()
    found = measure(**sizes)
    print(page(found))
    if not options.quick:
        publish("comparison", title=TITLE, page=page(found), document=found, facts=facts)


if __name__ == "__main__":
    main()
