"""What the article's claims are about, as numbers of single runs: accuracy, decays, and how gradients grow.

A gradient counts by its decimal logarithm, so that its mean over updates is that of its usual magnitude and not that of
a few large ones; a difference of such means is the logarithm of a factor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lrlab.runs import Run, find_runs

Array = npt.NDArray[np.float64]
Number = TypeVar("Number")

GROUPS = ("stem", "layer1", "layer2", "layer3", "layer4", "linear")
QUANTITIES = {
    "grad_l2": "L2 of the parameters",
    "grad_rms": "RMS of the parameters",
    "grad_out_l2": "L2 through the output",
    "grad_out_rms": "RMS through the output",
}
GROWING = {"grad_l2": "parameters", "grad_out_l2": "through the output"}
"""L2 and RMS of a group differ by a constant factor, so their growth over the updates is one."""
NUM_STRETCHES = 10
EARLY, LATE = 1, 9
"""The stretches that growth is between, from 0. In the first tenth the network leaves its initialisation, and the
article's rule has not looked yet."""
SPECIAL = ("layer1", "layer2")
"""Groups whose growth the article found especially visible."""


@dataclass(frozen=True)
class Measured:
    """What came of one run."""

    accuracy: float
    """Share of the test images, at the end."""
    decays: Sequence[int]
    """Updates at which the rule decayed the rate."""
    log_rate: float | None
    """Mean over the updates of log10 of the rate; None where it falls to zero."""
    tenths: Mapping[str, Sequence[float]]
    """Column -> mean of log10 of the gradient in each tenth of the updates; without what was measured too rarely."""

    def by_depth(self, quantity: str) -> Array:
        """Mean of log10 over all updates, for each group from the stem on."""
        return np.array([np.mean(self.tenths[f"{quantity}/{group}"]) for group in GROUPS])

    def has(self, quantity: str) -> bool:
        """Whether a quantity was measured in every tenth."""
        return f"{quantity}/{GROUPS[0]}" in self.tenths


@dataclass(frozen=True)
class Study:
    """The complete runs of one study."""

    name: str
    arms: Mapping[str, Mapping[int, Measured]]
    """Arm -> seed -> what came of it."""
    left_out: Sequence[str]
    """Runs that are not complete, and how they stand."""
    trained_on: Sequence[str]
    """Processors, precision and torch, as the runs recorded them."""

    def per_seed(self, number: Callable[..., Number], *arms: str) -> dict[int, Number]:
        """Compute one number a seed, from its runs of these arms, for the seeds that all of them have."""
        if missing := [arm for arm in arms if arm not in self.arms]:
            raise SystemExit(f"{self.name}: no complete run of {', '.join(missing)}. Finish the study first.")
        first, *others = (self.arms[arm] for arm in arms)
        seeds = [seed for seed in sorted(first) if all(seed in other for other in others)]
        if not seeds:
            raise SystemExit(f"{self.name}: no seed has complete runs of {', '.join(arms)}. Finish the study first.")
        return {seed: number(*(self.arms[arm][seed] for arm in arms)) for seed in seeds}


def read_study(path: Path) -> Study:
    """Read and measure the complete runs of a study.

    Raises: RunError if there is no study.
    """
    runs = find_runs(path)
    arms: dict[str, dict[int, Measured]] = {}
    for run in runs:
        if run.status == "complete":
            arms.setdefault(run.arm, {})[run.seed] = measure(run)
    left_out = [f"{run.arm} seed {run.seed} ({run.status})" for run in runs if run.status != "complete"]
    return Study(path.name, arms, left_out, sorted({_trained_on(run) for run in runs}))


def _trained_on(run: Run) -> str:
    facts, engine = run.info["environment"], run.info["engine"]
    machine = f"{facts['processor']}, {facts['num_cpus']} cores"
    return f"{machine}, {engine['precision']}, torch {facts['packages']['torch']}"


def measure(run: Run) -> Measured:
    """Reduce a complete run to the numbers that the claims need."""
    tenths: dict[str, list[float]] = {}
    for quantity in QUANTITIES:
        columns = [f"{quantity}/{group}" for group in GROUPS]
        found = {column: _by_tenth(run, column) for column in columns if column in run.columns}
        if len(found) == len(GROUPS) and not any(np.isnan(means).any() for means in found.values()):
            tenths |= {column: means.tolist() for column, means in found.items()}
    _, rates = run.series(f"lr/{GROUPS[-1]}")
    return Measured(
        float(run.result["test_accuracy"]),
        [int(record["step"]) for record in run.decisions() if record["decision"] == "decay"],
        float(np.log10(rates).mean()) if rates.min() > 0 else None,
        tenths,
    )


def _by_tenth(run: Run, column: str) -> Array:
    """Mean of log10 in each tenth of the updates; nan where nothing was measured."""
    steps, values = run.series(column)
    if not (np.isfinite(values) & (values > 0)).all():
        raise SystemExit(f"{run.directory}: {column} must be finite and above 0 to have a logarithm.")
    which = np.ceil(steps * NUM_STRETCHES / run.result["steps"]) - 1
    logs = np.log10(values)
    means = [logs[which == tenth].mean() if (which == tenth).any() else np.nan for tenth in range(NUM_STRETCHES)]
    return np.array(means)


def end_to_end(run: Measured, quantity: str) -> float:
    """log10 of the gradient of the linear layer over that of the stem."""
    means = run.by_depth(quantity)
    return float(means[-1] - means[0])


def slope(run: Measured, quantity: str) -> float:
    """Slope of log10 of the gradient over the groups, numbered from the stem: decades a group, by least squares."""
    return float(np.polyfit(np.arange(len(GROUPS)), run.by_depth(quantity), 1)[0])


def growth(run: Measured, quantity: str, groups: Sequence[str] = GROUPS) -> float:
    """log10 of the gradient in the last tenth of the updates over that in the second, mean over groups."""
    tenths = [run.tenths[f"{quantity}/{group}"] for group in groups]
    return float(np.mean([means[LATE] - means[EARLY] for means in tenths]))


def special_growth(run: Measured, quantity: str) -> float:
    """Growth of layer1 and layer2 minus that of the four other groups."""
    others = [group for group in GROUPS if group not in SPECIAL]
    return growth(run, quantity, SPECIAL) - growth(run, quantity, others)


def magnitude(run: Measured, quantity: str) -> float:
    """Mean of log10 of the gradient over updates and groups."""
    return float(run.by_depth(quantity).mean())


@dataclass(frozen=True)
class Trend:
    """A number of one run, above zero where gradients do what the article says."""

    name: str
    """What of the gradient it is."""
    kind: str
    """Which gradient, in words."""
    quantity: str
    number: Callable[[Measured, str], float]

    def __call__(self, run: Measured) -> float:
        """Compute it, a decimal logarithm."""
        return self.number(run, self.quantity)

    @property
    def label(self) -> str:
        """Both in one."""
        return f"{self.kind}: {self.name}"


TOWARDS_OUTPUT = [
    Trend(name, kind, quantity, number)
    for name, number in {"linear over stem": end_to_end, "slope, a group": slope}.items()
    for quantity, kind in QUANTITIES.items()
]
TOWARDS_END = [
    Trend(name, kind, quantity, number)
    for name, number in {"mean of the six groups": growth, "layer1 and layer2 over the others": special_growth}.items()
    for quantity, kind in GROWING.items()
]
MAGNITUDE = [Trend("mean of updates and groups", kind, quantity, magnitude) for quantity, kind in GROWING.items()]


def schedule_minus_rate(accuracy: Array) -> tuple[float, float]:
    """By how much the schedule moves the accuracy, and by how much the rate does.

    The range over the schedules at one rate, its mean over the rates; and the range over the rates in one schedule, its
    mean over the schedules.

    Args:
        accuracy: (schedules, rates).
    """
    return float(np.ptp(accuracy, axis=0).mean()), float(np.ptp(accuracy, axis=1).mean())
