"""Each of the article's claims, its tests and its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from article_trends import (
    GROUPS,
    GROWING,
    MAGNITUDE,
    QUANTITIES,
    TOWARDS_END,
    TOWARDS_OUTPUT,
    Measured,
    Study,
    Trend,
    growth,
    schedule_minus_rate,
)
from article_verdicts import Estimate, estimate, factor, judge, p_text, points, times, verdict_line
from measuring import digits, table, with_range

HIGH, LOW = "multiplier-0.5", "multiplier-0.2"
STEADY = "constant-lr-0.001"
RATES = ("0.0003", "0.001", "0.003")
SCHEDULES = {
    "the article's rule, 0.5": (f"{HIGH}-lr-0.0003", HIGH, f"{HIGH}-lr-0.003"),
    "constant": tuple(f"constant-lr-{rate}" for rate in RATES),
    "cosine": tuple(f"cosine-lr-{rate}" for rate in RATES),
}
MARGIN = 1 / 4
"""Share of a trend by which the multipliers may change it and it still counts as independent of them ..."""
LEAST_MARGIN = float(np.log10(1.05))
"""... and the logarithm of a factor that counts as no difference however small the trend."""


@dataclass(frozen=True)
class Answer:
    """What was found of one claim."""

    verdicts: Sequence[str]
    """One line for each part of the claim, Markdown."""
    tables: Sequence[str]
    estimates: Mapping[str, Estimate]

    @property
    def page(self) -> str:
        """Verdicts and tables, Markdown."""
        return "\n\n".join(["\n".join(f"- {verdict}" for verdict in self.verdicts), *self.tables])


def multipliers(study: Study) -> Answer:
    """Claim 1: with 0.5 the rate falls more slowly than with 0.2, and the accuracy ends higher."""
    rates = (
        study.per_seed(lambda run: _known(run.log_rate), HIGH),
        study.per_seed(lambda run: _known(run.log_rate), LOW),
    )
    accuracies = study.per_seed(lambda run: run.accuracy, HIGH), study.per_seed(lambda run: run.accuracy, LOW)
    rate, accuracy = judge([estimate(_paired(*rates)), estimate(_paired(*accuracies))])
    tested = table(
        ["0.5 against 0.2, paired by seed", "n", "mean (95 % interval)", "0.5 above in", "p, Holm 2", "verdict"],
        [_row("rate, mean over the updates: factor", rate), _row("test accuracy at the end: points", accuracy, points)],
    )
    header = ["arm", "n", "test accuracy, %", "first decay, update", "runs without", "decays a run, mean"]
    arms = table(header, [_decays(arm, list(study.arms[arm].values())) for arm in (HIGH, LOW)])
    return Answer(
        [
            f"With 0.5 the rate falls more slowly: {verdict_line({'': rate.verdict})}",
            f"With 0.5 the accuracy ends higher: {verdict_line({'': accuracy.verdict})}",
        ],
        [tested, "Each multiplier by itself, medians [least, largest]:", arms],
        {"rate, 0.5 over 0.2": rate, "accuracy, 0.5 minus 0.2": accuracy},
    )


def _known(log_rate: float | None) -> float:
    assert log_rate is not None, "the rule never decays to zero"
    return log_rate


def _decays(arm: str, runs: Sequence[Measured]) -> list[str]:
    accuracies = with_range([100 * run.accuracy for run in runs])
    first = [run.decays[0] for run in runs if run.decays]
    without, number = len(runs) - len(first), float(np.mean([len(run.decays) for run in runs]))
    return [f"`{arm}`", str(len(runs)), accuracies, with_range(first) if first else "", str(without), digits(number, 2)]


def schedule_or_rate(study: Study) -> Answer:
    """Claim 2: the schedule moves the accuracy more than the rate does."""
    arms = [arm for row in SCHEDULES.values() for arm in row]
    shape = len(SCHEDULES), len(RATES)
    grids = study.per_seed(lambda *runs: np.reshape([run.accuracy for run in runs], shape), *arms)
    moved = {seed: schedule_minus_rate(grid) for seed, grid in grids.items()}
    by_schedule, by_rate = (estimate({seed: both[i] for seed, both in moved.items()}) for i in (0, 1))
    (difference,) = judge([estimate({seed: one - other for seed, (one, other) in moved.items()})])
    tested = table(
        ["test accuracy at the end, points", "n", "mean (95 % interval)", "above 0 in", "p", "verdict"],
        [
            ["range over the schedules, at one rate", str(by_schedule.n), points(by_schedule), "", "", ""],
            ["range over the rates, in one schedule", str(by_rate.n), points(by_rate), "", "", ""],
            _row("the first minus the second", difference, points),
        ],
    )
    means = np.mean(list(grids.values()), axis=0)
    rows = [[name, *(f"{100 * value:.2f}" for value in row)] for name, row in zip(SCHEDULES, means, strict=True)]
    parts = [schedule_minus_rate(np.delete(np.delete(means, i, 0), j, 1)) for i in range(3) for j in range(3)]
    return Answer(
        [f"The schedule matters more than the rate: {verdict_line({'': difference.verdict})}"],
        [
            tested,
            table([f"test accuracy at the end, %, mean of {len(grids)}", *RATES], rows),
            f"With one schedule and one rate left out, these means have the schedule ahead in "
            f"{sum(one > other for one, other in parts)} of the {len(parts)} grids of two by two.",
        ],
        {"over schedules": by_schedule, "over rates": by_rate, "schedules minus rates": difference},
    )


def towards_the_output(studies: Sequence[Study]) -> Answer:
    """Claim 3: gradients grow towards the output, above all from the stem to the linear layer."""
    study = studies[0]
    found = dict(zip(TOWARDS_OUTPUT, judge([estimate(study.per_seed(t, HIGH)) for t in TOWARDS_OUTPUT]), strict=True))
    header = [f"`{HIGH}`", "n", "factor (95 % interval)", "above 1 in", f"p, Holm {len(found)}", "verdict"]
    runs = list(study.arms[HIGH].values())
    means = [np.array([run.by_depth(quantity) for run in runs]) for quantity in QUANTITIES]
    rows = [[f"`{group}`", *(times(logs[:, i].mean()) for logs in means)] for i, group in enumerate(GROUPS)]
    rows.append(["steps up, of 5, mean", *(f"{(np.diff(logs) > 0).sum(1).mean():.1f}" for logs in means)])
    return Answer(
        [
            f"{lead}: {verdict_line({trend.kind: one.verdict for trend, one in found.items() if trend.name == name})}"
            for lead, name in (("The linear layer lies above the stem", "linear over stem"),
                               ("The groups rise from the stem to the linear layer", "slope, a group"))
        ],
        [
            table(header, [_row(trend.label, one) for trend, one in found.items()]),
            f"Geometric means over the updates and over {len(runs)} seeds of `{HIGH}`:",
            table(["group", *QUANTITIES.values()], rows),
            *_in_every_arm(studies, TOWARDS_OUTPUT),
        ],
        {trend.label: one for trend, one in found.items()},
    )  # fmt: skip


def towards_the_end(studies: Sequence[Study]) -> Answer:
    """Claim 4: gradients grow towards the end of the training, above all in layer1 and layer2."""
    study, rows, verdicts = studies[0], [], []
    columns: dict[str, list[str]] = {}
    found: dict[str, Estimate] = {}
    for name in dict.fromkeys(trend.name for trend in TOWARDS_END):
        cells = [(trend, arm) for trend in TOWARDS_END if trend.name == name for arm in (HIGH, STEADY)]
        judged = judge([estimate(study.per_seed(trend, arm)) for trend, arm in cells])
        labels = [f"{trend.kind} in `{arm}`" for trend, arm in cells]
        rows += [_row(f"{label}: {name}", one) for label, one in zip(labels, judged, strict=True)]
        found |= {f"{label}: {name}": one for label, one in zip(labels, judged, strict=True)}
        verdicts.append((name, verdict_line({label: one.verdict for label, one in zip(labels, judged, strict=True)})))
    for quantity, kind in GROWING.items():
        for arm in (HIGH, STEADY):
            trends = [partial(growth, quantity=quantity, groups=[group]) for group in GROUPS]
            judged = judge([estimate(study.per_seed(trend, arm)) for trend in trends])
            columns[f"{kind} in `{arm}`"] = [f"{factor(one)} {one.verdict}" for one in judged]
            found |= {f"{kind} in `{arm}`: {group}": one for group, one in zip(GROUPS, judged, strict=True)}
    groups = [[f"`{group}`", *(column[i] for column in columns.values())] for i, group in enumerate(GROUPS)]
    return Answer(
        [f"Growth towards the end, {name}: {line}" for name, line in verdicts],
        [
            table(
                ["last tenth over second", "n", "factor (95 % interval)", "above 1 in", "p, Holm 4", "verdict"], rows
            ),
            "Each group by itself (Holm 6 in each column):",
            table(["last tenth over second", *columns], groups),
            *_in_every_arm(studies, TOWARDS_END),
        ],
        found,
    )


def whatever_the_multiplier(study: Study) -> Answer:
    """Claim 5: the trends do not depend on the multiplier, but on the rate: a higher one has larger gradients."""
    trends = [*TOWARDS_OUTPUT, *TOWARDS_END]
    # for the seeds that both multipliers have
    of_high = [estimate(study.per_seed(lambda high, _, trend=trend: trend(high), HIGH, LOW)) for trend in trends]
    margins = [max(MARGIN * abs(one.mean), LEAST_MARGIN) for one in of_high]
    differences = [_paired(study.per_seed(trend, LOW), one.values) for trend, one in zip(trends, of_high, strict=True)]
    judged = judge([estimate(one, margin=margin) for one, margin in zip(differences, margins, strict=True)])
    rows = [
        [trend.label, str(one.n), factor(high), factor(one), _ends(margin), p_text(one.p_holm), one.verdict]
        for trend, high, one, margin in zip(trends, of_high, judged, margins, strict=True)
    ]
    header = ["trend", "n", "with 0.5", "0.2 over 0.5", "margin", f"p, Holm {len(judged)}", "verdict"]
    slow, fast = SCHEDULES["constant"][0], SCHEDULES["constant"][-1]
    rates = judge([estimate(_paired(study.per_seed(t, fast), study.per_seed(t, slow))) for t in MAGNITUDE])
    header_of_rates = [f"`{fast}` over `{slow}`", "n", "factor (95 % interval)", "above 1 in", "p, Holm 2", "verdict"]
    by_kind = {trend.kind: one for trend, one in zip(MAGNITUDE, rates, strict=True)}
    return Answer(
        [
            f"The trends do not depend on the multiplier: {_all_of([one.verdict for one in judged])}",
            f"A higher rate has larger gradients: {verdict_line({kind: one.verdict for kind, one in by_kind.items()})}",
        ],
        [
            "Factors with their 95 % intervals:",
            table(header, rows),
            table(header_of_rates, [_row(trend.label, one) for trend, one in zip(MAGNITUDE, rates, strict=True)]),
        ],
        {trend.label: one for trend, one in zip([*trends, *MAGNITUDE], [*judged, *rates], strict=True)},
    )


def _ends(margin: float) -> str:
    return f"{times(-margin)} to {times(margin)}"


def _all_of(verdicts: Sequence[str]) -> str:
    """The verdict on a claim that must hold of each: true if all are, false if one is."""
    counts = Counter(verdicts)
    whole = "false" if counts["false"] else "undecided" if counts["undecided"] else "true"
    return f"**{whole}** ({_counted(counts)} of {len(verdicts)} trends)."


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("true", "false", "undecided") if counts[verdict])


def _paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> dict[int, float]:
    """Ours minus theirs, for the seeds that both have."""
    return {seed: value - theirs[seed] for seed, value in ours.items() if seed in theirs}


def _row(label: str, found: Estimate, text: Callable[[Estimate], str] = factor) -> list[str]:
    return [label, str(found.n), text(found), f"{found.num_above}/{found.n}", p_text(found.p_holm), found.verdict]


def _in_every_arm(studies: Sequence[Study], trends: Sequence[Trend]) -> list[str]:
    """A table for each study: in how many of its arms each trend holds."""
    header = ["trend", "arms", "n each", "factors, least and largest mean", "verdicts, Holm over the arms"]
    tables = []
    for study in studies:
        rows = [row for trend in trends if (row := _row_of_arms(study, trend))]
        tables += [f"In every arm of the study `{study.name}`:", table(header, rows)]
    return tables


def _row_of_arms(study: Study, trend: Trend) -> list[str] | None:
    """One row of it; None where no arm has measured the quantity often enough."""
    arms = [arm for arm, runs in study.arms.items() if all(run.has(trend.quantity) for run in runs.values())]
    judged = judge([estimate(study.per_seed(trend, arm)) for arm in arms])
    if not judged:
        return None
    means, seeds = [one.mean for one in judged], {str(one.n): None for one in sorted(judged, key=lambda one: one.n)}
    verdicts = _counted(Counter(one.verdict for one in judged))
    return [trend.label, str(len(arms)), " or ".join(seeds), f"{times(min(means))} to {times(max(means))}", verdicts]
