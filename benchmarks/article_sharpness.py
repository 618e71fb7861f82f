"""Whether the gradients grow at the end because the optimum is sharp, as the article guessed.

    lrlab study studies/sharpness.toml
    lrlab sharpness runs/sharpness --at 1000 --at 2000 --at 6000 --at 10000 --examples 64 --vectors 5
    python benchmarks/article_sharpness.py runs/sharpness

Fills in docs/sharpness.md, draws docs/figures/sharpness.png, and writes all numbers to benchmarks/results/.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from scipy import stats

from article_claims import fill
from article_trends import GROUPS, growth, measure
from article_verdicts import Estimate, estimate, factor, judge, p_text
from lrlab.report.style import DPI, line_style, styled, to_png
from lrlab.runs import Run, find_runs
from measuring import digits, environment, publish, table

DOCS = Path(__file__).parents[1] / "docs"
TITLE = "Whether gradients grow because the optimum is sharp"
EARLY, LATE = 2000, 10_000
"""Ends of the second and of the last tenth, between which the gradients' growth is taken."""
NUM_PERMUTATIONS = 9_999
QUANTITIES = {
    "hessian_max": "largest eigenvalue of the Hessian",
    "hessian_trace": "trace of the Hessian",
    "sam_sharpness": "SAM sharpness",
    "preconditioned_max": "largest eigenvalue as Adam sees it",
}
EDGES = {"hessian_max": "hessian_edge", "preconditioned_max": "preconditioned_edge"}

Arms = Mapping[str, Mapping[int, Run]]


def read_arms(path: Path) -> Arms:
    """Arm -> seed -> run, of the complete runs whose sharpness was measured at both ends."""
    arms: dict[str, dict[int, Run]] = {}
    for run in find_runs(path):
        if run.status == "complete" and {EARLY, LATE} <= set(_series(run, "hessian_max/whole")):
            arms.setdefault(run.arm, {})[run.seed] = run
    if not arms:
        raise SystemExit(f"{path}: no complete run has its sharpness measured at {EARLY} and {LATE}.")
    return arms


def _series(run: Run, column: str) -> dict[int, float]:
    if column not in run.columns:
        return {}
    return {int(step): float(value) for step, value in zip(*run.series(column), strict=True)}


def at(run: Run, column: str, step: int) -> float:
    """log10 of a quantity at a checkpoint."""
    return float(np.log10(_series(run, column)[step]))


def grown(run: Run, column: str) -> float:
    """log10 of a quantity at the end over that at the end of the second tenth."""
    return at(run, column, LATE) - at(run, column, EARLY)


def gradient_growth(run: Run, quantity: str = "grad_l2") -> float:
    """log10 of the gradient in the last tenth of the updates over that in the second, mean of the six groups."""
    return growth(measure(run), quantity)


def per_arm(arms: Arms, number: Callable[[Run], float]) -> dict[str, Estimate]:
    """One estimate an arm, adjusted for each other."""
    found = judge([estimate({seed: number(run) for seed, run in runs.items()}) for runs in arms.values()])
    return dict(zip(arms, found, strict=True))


def growths(arms: Arms) -> dict[str, dict[str, Estimate]]:
    """What grows, and what does not: quantity -> arm -> factor from the second tenth to the end."""
    numbers: dict[str, Callable[[Run], float]] = {
        "gradient of the parameters": gradient_growth,
        "gradient through the outputs": lambda run: gradient_growth(run, "grad_out_l2"),
    }
    for quantity, words in QUANTITIES.items():
        numbers[words] = lambda run, column=f"{quantity}/whole": grown(run, column)
    return {words: per_arm(arms, number) for words, number in numbers.items()}


def by_group(arms: Arms) -> dict[str, dict[str, Estimate]]:
    """Group -> arm -> growth of the largest eigenvalue of its block."""
    return {group: per_arm(arms, lambda run, c=f"hessian_max/{group}": grown(run, c)) for group in GROUPS}


def differences(arms: Arms) -> dict[str, Estimate]:
    """Sharpness at the end of each arm over that of the constant rate, paired by seed."""
    base = arms["constant"]
    pairs = {
        f"{arm} over constant, {words}": {
            seed: at(run, f"{quantity}/whole", LATE) - at(base[seed], f"{quantity}/whole", LATE)
            for seed, run in runs.items()
            if seed in base
        }
        for quantity, words in QUANTITIES.items()
        for arm, runs in arms.items()
        if arm != "constant"
    }
    return dict(zip(pairs, judge([estimate(values) for values in pairs.values()]), strict=True))


def across_runs(arms: Arms) -> dict[str, dict[str, float]]:
    """Rank correlation over all runs of the gradient's growth with that of each quantity, arms taken out.

    Each run counts by how far it is from its arm's mean, so that what the schedule does to both is not counted as one
    doing it to the other. The p value is that of permutations of the seeds within each arm.
    """
    found = {}
    for quantity, words in QUANTITIES.items():
        ones, others, sizes = [], [], []
        for runs in arms.values():
            gradient = np.array([gradient_growth(run) for run in runs.values()])
            sharpness = np.array([grown(run, f"{quantity}/whole") for run in runs.values()])
            ones.append(gradient - gradient.mean())
            others.append(sharpness - sharpness.mean())
            sizes.append(len(runs))
        rho = float(stats.spearmanr(np.concatenate(ones), np.concatenate(others)).statistic)
        random, num_beyond = np.random.default_rng(0), 0
        for _ in range(NUM_PERMUTATIONS):
            shuffled = np.concatenate([random.permutation(part) for part in others])
            num_beyond += abs(stats.spearmanr(np.concatenate(ones), shuffled).statistic) >= abs(rho) - 1e-12
        found[words] = {"rho": rho, "p": (num_beyond + 1) / (NUM_PERMUTATIONS + 1), "n": float(sum(sizes))}
    return found


def of_the_edge(arms: Arms) -> dict[str, dict[str, tuple[float, float]]]:
    """Quantity -> arm -> least and largest share of its edge of stability, over seeds and checkpoints."""
    shares: dict[str, dict[str, tuple[float, float]]] = {}
    for quantity, edge in EDGES.items():
        for arm, runs in arms.items():
            found = [
                value / edges[step]
                for run in runs.values()
                for edges in [_series(run, f"{edge}/whole")]
                for step, value in _series(run, f"{quantity}/whole").items()
                if step in edges
            ]
            shares.setdefault(QUANTITIES[quantity], {})[arm] = min(found), max(found)
    return shares


@styled
def draw(arms: Arms) -> Figure:
    """Each quantity over the checkpoints, seeds thin and their geometric mean thick; first the gradient itself."""
    figure = Figure(figsize=(11, 6.2), layout="constrained", dpi=DPI)
    panels = figure.subplots(2, 3).ravel()
    columns = {f"{quantity}/whole": words for quantity, words in QUANTITIES.items()}
    columns |= {
        "hessian_max/stem": "the stem's largest eigenvalue",
        "hessian_max/layer1": "layer1's largest eigenvalue",
    }
    for axes, (column, words) in zip(panels, columns.items(), strict=True):
        for index, (arm, runs) in enumerate(arms.items()):
            style = line_style(index)
            series = [_series(run, column) for run in runs.values()]
            for one in series:
                axes.plot(list(one), list(one.values()), color=style["color"], lw=0.7, alpha=0.4)
            mean = [float(np.exp(np.mean(np.log([one[step] for one in series])))) for step in series[0]]
            axes.plot(list(series[0]), mean, lw=2.2, marker="o", ms=3.5, label=f"{arm} (n = {len(runs)})", **style)
        axes.set_title(words, loc="left", fontsize=10)
        axes.set_yscale("log")
        axes.set_xlabel("update")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 5, 8)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(arms))
    return figure


def _rows(found: Mapping[str, Mapping[str, Estimate]]) -> list[list[str]]:
    return [
        [words, *(f"{factor(one)} {p_text(one.p_holm)}".strip() for one in of.values())] for words, of in found.items()
    ]


def blocks(arms: Arms) -> tuple[dict[str, str], dict[str, object]]:
    """The parts of the page, and the numbers behind them."""
    grow, groups, pairs, ranks, edges = (
        growths(arms),
        by_group(arms),
        differences(arms),
        across_runs(arms),
        of_the_edge(arms),
    )
    header = [
        f"{LATE:,} over {EARLY:,}: factor (95 % interval), p",
        *(f"{arm} (n = {len(r)})" for arm, r in arms.items()),
    ]
    values = [
        [
            words,
            *(" ".join(_middle(runs, f"{quantity}/whole", step) for step in (EARLY, LATE)) for runs in arms.values()),
        ]
        for quantity, words in QUANTITIES.items()
    ]
    parts = {
        "values": table([f"at {EARLY:,} and at {LATE:,}, geometric mean", *arms], values),
        "growth": table(header, _rows(grow)),
        "groups": table(["largest eigenvalue of the group's own Hessian", *header[1:]], _rows(groups)),
        "differences": table(
            ["at the end", "n", "factor (95 % interval)", f"p, Holm {len(pairs)}", "above"],
            [
                [name, str(one.n), factor(one), p_text(one.p_holm), f"{one.num_above}/{one.n}"]
                for name, one in pairs.items()
            ],
        ),
        "ranks": table(
            ["growth of the gradient with that of", "rank correlation", "p", "n"],
            [[words, f"{one['rho']:+.2f}", p_text(one["p"]), f"{one['n']:.0f}"] for words, one in ranks.items()],
        ),
        "edges": table(
            ["share of the edge, least and largest, %", *arms],
            [
                [words, *(f"{digits(100 * low, 2)} to {digits(100 * high, 2)}" for low, high in of.values())]
                for words, of in edges.items()
            ],
        ),
    }
    document = {
        "growth": {words: {arm: asdict(one) for arm, one in of.items()} for words, of in {**grow, **groups}.items()},
        "differences": {name: asdict(one) for name, one in pairs.items()},
        "ranks": ranks,
        "edges": edges,
        "measured": {arm: {seed: run.info["sharpness"] for seed, run in runs.items()} for arm, runs in arms.items()},
        "series": {
            arm: {
                seed: {column: _series(run, column) for column in run.columns if column in run.later_columns}
                for seed, run in runs.items()
            }
            for arm, runs in arms.items()
        },
    }
    return parts, document


def _middle(runs: Mapping[int, Run], column: str, step: int) -> str:
    return digits(10 ** float(np.mean([at(run, column, step) for run in runs.values()])))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    arms = read_arms(parser.parse_args(arguments).study)
    parts, document = blocks(arms)
    page = "\n\n".join(parts.values())
    print(page)
    publish("article-sharpness", title=TITLE, page=page, document=document, facts=environment())
    (DOCS / "sharpness.md").write_text(fill((DOCS / "sharpness.md").read_text(), parts))
    (DOCS / "figures" / "sharpness.png").write_bytes(to_png(draw(arms)))
    print("written: docs/sharpness.md and docs/figures/sharpness.png")


if __name__ == "__main__":
    main()
