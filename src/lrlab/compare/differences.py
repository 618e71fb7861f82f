"""One pair of arms: which seeds both have, what is left out, and what their differences say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from lrlab.compare import statistics
from lrlab.compare.measures import Measure
from lrlab.compare.statistics import LEVEL, Interval
from lrlab.compare.tasks import Task
from lrlab.runs import Run

Verdict = Literal["different", "no evidence", "identical", "too few"]


@dataclass(frozen=True)
class LeftOut:
    """A run that is not in a difference, and why."""

    arm: str
    seed: int
    reason: str
    """diverged, not run, or how it stands."""


@dataclass(frozen=True)
class Difference:
    """An arm minus a reference, paired by seed, in the measure's own unit."""

    task: str
    arm: str
    reference: str
    seeds: Sequence[int]
    """Those of which both runs are complete."""
    left_out: Sequence[LeftOut]
    differs_in: Sequence[str]
    """Settings in which the two arms differ."""
    differences: Sequence[float] = field(repr=False)
    """One for each seed."""
    arm_updates: Sequence[int] = ()
    """Update at which the arm's run of each seed ended; empty where one does not say."""
    reference_updates: Sequence[int] = ()
    mean: float | None = None
    std: float | None = None
    interval: Interval | None = None
    """Student's, 95 %."""
    bootstrap: Interval | None = None
    """Bias-corrected and accelerated, 95 %."""
    p: float | None = None
    """Of Student's paired test, which agrees with the interval; of the sign-flip test where all seeds differ alike."""
    p_holm: float | None = None
    """The same adjusted for all pairs of the comparison."""
    p_sign_flip: float | None = None
    p_sign_flip_holm: float | None = None
    effect_size: float | None = None
    """Mean over standard deviation of the differences, with Hedges' correction."""
    detectable: float | None = None
    """Smallest difference that 80 % of such studies would find, adjusted for all pairs."""
    seeds_needed: int | None = None
    """Seeds with which 80 % of studies would find a difference as large as this one; None beyond 10,000."""
    verdict: Verdict = "too few"

    @property
    def num_seeds(self) -> int:
        """How many seeds it rests on."""
        return len(self.seeds)

    @property
    def num_above(self) -> int:
        """Seeds in which the arm has the larger value."""
        return sum(difference > 0 for difference in self.differences)


def measure_difference(task: Task, arm: str, reference: str, measure: Measure) -> Difference:
    """Pair two arms by seed and describe their differences; what needs the other pairs comes with `judge`."""
    ours, theirs = task.arms[arm], task.arms[reference]
    values: dict[int, float] = {}
    left_out: list[LeftOut] = []
    for seed in sorted({*ours, *theirs}):
        pair = {arm: value_of(ours.get(seed), measure), reference: value_of(theirs.get(seed), measure)}
        left_out += [LeftOut(name, seed, found) for name, found in pair.items() if isinstance(found, str)]
        one, other = pair[arm], pair[reference]
        if isinstance(one, float) and isinstance(other, float):
            values[seed] = one - other
    found = Difference(
        task.name,
        arm,
        reference,
        list(values),
        left_out,
        task.differing([arm, reference]),
        list(values.values()),
        _updates([ours[seed] for seed in values]),
        _updates([theirs[seed] for seed in values]),
    )
    return _describe(found)


def _updates(runs: Sequence[Run]) -> list[int]:
    steps = [run.result.get("steps") for run in runs]
    return [int(step) for step in steps if step is not None] if None not in steps else []


def value_of(run: Run | None, measure: Measure) -> float | str:
    """Return the value of a run at its end, or why it has none to compare."""
    if run is None:
        return "not run"
    value = measure.final(run)
    if run.status != "complete":
        return run.status
    if value is not None:
        return value
    return f"{measure.name} not finite" if measure.name in run.columns else f"no {measure.name}"


def _describe(found: Difference) -> Difference:
    differences = np.array(found.differences)
    if not len(differences):
        return found
    mean = float(differences.mean())
    if len(differences) < 2:
        return replace(found, mean=mean)
    p_sign_flip = statistics.sign_flip_p(differences)
    if statistics.are_alike(differences):  # nothing to measure a spread with: the exact test alone has something to say
        return replace(found, mean=mean, std=0.0, p=p_sign_flip, p_sign_flip=p_sign_flip)
    return replace(
        found,
        mean=mean,
        std=float(differences.std(ddof=1)),
        interval=Interval(*map(float, statistics.student_interval(differences))),
        bootstrap=Interval(*map(float, statistics.bootstrap_interval(differences))),
        p=float(statistics.student_p(differences)),
        p_sign_flip=p_sign_flip,
        effect_size=statistics.effect_size(differences) if len(differences) > 2 else None,
    )


def judge(differences: Sequence[Difference]) -> list[Difference]:
    """Adjust the p values of all pairs for each other, and say what each pair shows."""
    tested = [found for found in differences if found.p is not None]
    p_values = np.array([(found.p, found.p_sign_flip) for found in tested], np.float64).reshape(-1, 2)
    adjusted = iter(statistics.holm(p_values.T).T.tolist())
    level = LEVEL / max(1, len(tested))
    return [found if found.p is None else _judge(found, *next(adjusted), level=level) for found in differences]


def _judge(found: Difference, p_holm: float, p_sign_flip_holm: float, *, level: float) -> Difference:
    assert found.mean is not None
    verdict: Verdict = "different" if p_holm <= LEVEL else "no evidence"
    if not any(found.differences):
        verdict = "identical"
    judged = replace(found, p_holm=p_holm, p_sign_flip_holm=p_sign_flip_holm, verdict=verdict)
    if not found.std:
        return judged
    return replace(
        judged,
        detectable=found.std * statistics.detectable_difference(found.num_seeds, level=level),
        seeds_needed=statistics.seeds_needed(found.mean / found.std, level=level),
    )


def spread_of(values: Mapping[int, float]) -> float | None:
    """Standard deviation over seeds; None below two."""
    return float(np.std(list(values.values()), ddof=1)) if len(values) > 1 else None
