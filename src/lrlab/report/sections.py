"""What the page says in words and tables, section by section."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lrlab.report import tables
from lrlab.report.again import again, again_from, launcher
from lrlab.report.charts import Chart
from lrlab.report.decisions import decisions_summary, decisions_table
from lrlab.report.limits import what_is_outside
from lrlab.report.members import Member, by_arm
from lrlab.report.tuning import tuning_remarks
from lrlab.runs import Run
from lrlab.runs.storage import ELSEWHERE

_CHARTS: Final = {
    "training": (
        "Training",
        "Each point of a smoothed line is the mean of the values before it, as many as the caption says (at the start "
        "of fewer, at least a tenth as many); single values stand behind it where there are no more than two runs.",
    ),
    "grad": (
        "Gradients of the parameters",
        "L2 norm of the gradient of each layer group's parameters, of the loss of one batch; it tends to grow with the "
        "number of parameters. All groups share one scale, so that they can be compared by eye.",
    ),
    "grad_out": (
        "Gradients through the outputs",
        "L2 norm, over the whole batch, of the gradient that flows back through each layer group's output. All "
        "groups share one scale, so that they can be compared by eye.",
    ),
    "update": (
        "Updates",
        "How far an update moves each layer group, over how far from zero it stands: rate, moments, decay and clipping "
        "together.",
    ),
    "cosine": (
        "Successive gradients",
        "Cosine of the angle between the gradients of two updates in a row, of different batches. Near zero noise "
        "outweighs what they have in common; below it the weights jump to and fro.",
    ),
    "snr": (
        "Signal to noise",
        "Square of Adam's first moment over its second, each summed over a group: 1 where all batches agree, about "
        "0.05 (with beta1 = 0.9) where they have nothing in common.",
    ),
    "noise": (
        "Noise scale",
        "Variance of an example's gradient over the square of the expected one: about the batch size beyond which more "
        "examples hardly help. Means over the last measurements; missing where the gradient is lost in the noise.",
    ),
    "dead": (
        "Dead ReLUs",
        "Share of a group's channels that are zero at all places for every example of a batch: no gradient flows back "
        "through them. Small batches make units look dead that are only rare.",
    ),
    "weight": (
        "Weights",
        "L2 norm of each layer group's weights. Behind a normalisation, larger weights turn less with the same update.",
    ),
    "sharpness": (
        "Sharpness",
        "Largest eigenvalue of the Hessian of the training loss, of all weights and of each group's alone, measured by "
        "lrlab sharpness at checkpoints. Dotted is the edge of stability: of gradient descent 2 / lr, with momentum "
        "2 (1 + momentum) / lr. Above it the steepest direction swings up; for Adam, see the next chart.",
    ),
    "preconditioned": (
        "Sharpness as Adam sees it",
        "The same with each direction scaled by Adam's second moments, as its updates are. Its edge is "
        "(2 + 2 beta1) / ((1 - beta1) lr), 38 / lr by default.",
    ),
    "trace": ("Trace of the Hessian", "Sum of its eigenvalues: the mean curvature, times the number of weights."),
    "sam": (
        "SAM sharpness",
        "How much the loss rises at a distance of 0.05 along its gradient; of a group, its weights alone are moved.",
    ),
}
_STATUS: Final = {
    "running": "is not over: this page shows what was on disk when it was written",
    "complete": "came to its end",
    "preempted": "was stopped before its end",
    "diverged": "ended when its loss, or a gradient, was no longer a finite number",
    "failed": "ended with an error",
}
_MOST_RUNS_WITH_DECISIONS: Final = 50
_MOST_COMMANDS: Final = 20


@dataclass(frozen=True)
class ChartEntry:
    """A chart as it stands in the page."""

    index: int
    """Among all charts."""
    title: str
    caption: str


def describe(
    paths: Sequence[Path],
    members: Sequence[Member],
    charts: Sequence[Chart],
    confusions: dict[str, tables.Confusion],
    *,
    num_marked: int,
    is_study: bool,
    is_beside: bool,
) -> dict[str, Any]:
    """Return everything that the page says, by the name that its template knows it by.

    Args:
        paths: that were named.
        members: all runs of them.
        charts: that the page draws.
        confusions: arm -> its last matrix.
        num_marked: decays that its charts mark.
        is_study: whether the page is of more than one run alone.
        is_beside: whether it lies in the folder that was named.
    """
    return {
        **(_of_study(paths, members) if is_study else _of_run(members[0], is_beside=is_beside)),
        "charts": _chart_sections(charts),
        "arm_names": list(by_arm(members)),
        "decay_remark": _decay_remark(members, num_marked),
        "decisions": [
            (member.label, decisions_summary(member), decisions_table(member))
            for member in [member for member in members if member.num_decisions][:_MOST_RUNS_WITH_DECISIONS]
        ],
        "num_decisions_left_out": max(0, sum(bool(one.num_decisions) for one in members) - _MOST_RUNS_WITH_DECISIONS),
        "errors": [(arm, confusion.source, tables.classes_table(confusion)) for arm, confusion in confusions.items()],
        "config": tables.settings_table(members, lambda run: run.config),
        "made_with": tables.settings_table(members, _made_with),
        "made_elsewhere": any(ELSEWHERE in member.run.info for member in members),
        **_commands(members),
    }


def _of_run(member: Member, *, is_beside: bool) -> dict[str, Any]:
    where = "lies beside this page" if is_beside else f"lies in {member.run.directory}"
    return {
        "kind": "Run",
        "summary": f"{member.status}: it {_STATUS[member.status]}.{tables.what_diverged(member)}",
        "runs": tables.run_table(member),
        "arms": None,
        "remarks": [
            "n = 1: one run shows what happened once and proves nothing about its schedule. "
            "With another seed it may come out otherwise."
        ],
        "differences": None,
        "again": again(member.run),
        "again_from": again_from(member.run, where),
    }


def _of_study(paths: Sequence[Path], members: Sequence[Member]) -> dict[str, Any]:
    arms = by_arm(members)
    statuses = [member.status for member in members]
    counted = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    remarks = [
        "n counts the runs that came to their end; means and intervals are over those alone, and the others are named "
        "beside them. The interval of an arm holds the spread between its seeds; whether two arms differ is told by "
        "the differences seed by seed, below, and not by whether these intervals overlap."
    ]
    if any(sum(member.is_counted for member in seeds) == 1 for seeds in arms.values()):
        remarks.append("Where n = 1, one run proves nothing: with another seed it may come out otherwise.")
    splits = {member.run.evaluated_split: member.arm for member in members}
    if len(splits) > 1:
        listed = "; ".join(
            f"{split}: {', '.join(arm for arm, seeds in arms.items() if seeds[0].run.evaluated_split == split)}"
            for split in sorted(splits)
        )
        remarks.append(f"Not all arms were evaluated on the same images: do not compare their accuracies ({listed}).")
    for path in paths:
        remarks += tuning_remarks(path)
    is_one_study = len({member.run.study for member in members}) == 1 and members[0].run.study is not None
    return {
        "kind": "Study" if is_one_study else "Runs",
        "summary": f"{tables.count(len(arms), 'arm')}, {tables.count(len(members), 'run')}: {counted}.",
        "runs": tables.runs_table(members),
        "arms": tables.arms_table(members),
        "remarks": remarks,
        "differences": tables.differences_table(members) if len(arms) > 1 or len(members) > 1 else None,
        "again": "lrlab study study.toml" if is_one_study else "lrlab train --config config.toml --run NEW",
        "again_from": (
            "The same from study.toml, which lies in the study's folder and holds what was set (the config.toml of "
            "each run holds every setting); copy it to an empty folder first, since here nothing is missing:"
            if is_one_study
            else "The same, run by run, from the config.toml of each, which holds every setting:"
        ),
    }


def _chart_sections(charts: Sequence[Chart]) -> list[tuple[str, str, list[ChartEntry]]]:
    entries: dict[str, list[ChartEntry]] = {}
    for index, chart in enumerate(charts):
        quantity = chart.panel.quantity
        entries.setdefault(quantity.section, []).append(ChartEntry(index, quantity.title, _caption(chart)))
    return [(*_CHARTS[section], found) for section, found in entries.items()]


def _caption(chart: Chart) -> str:
    panel, limits = chart
    has_band = any(arm.band is not None for arm in panel.arms)
    parts = ["thick: median of the seeds; band: their middle half; thin: one seed"] * has_band
    if panel.window > 1:
        parts.append(f"lines: mean of the last {panel.window:,} {panel.quantity.smoothed_over}")
    if panel.window > 1 and not panel.has_raw and panel.peak is not None:
        value, step, member = panel.peak
        parts.append(f"largest single value: {value:.3g} at update {step:,.0f} of {member.label}")
    return "; ".join(filter(None, [*parts, what_is_outside(panel, limits)]))


def _decay_remark(members: Sequence[Member], num_marked: int) -> str:
    """Say what the marks of decays are, and how many decays have none; nothing where there are none."""
    number = sum(len(member.decays.moved) + len(member.decays.at_floor) for member in members)
    if not number:
        return ""
    remark = (
        "A tick above a chart is a decay, in a row for each arm, the stronger the more of its seeds it holds; a short "
        "one found the rate at its floor. Point at it for what was measured."
    )
    if num_marked < number:
        remark += f" Of {number:,} decays {num_marked:,} are in a tick, the first of each arm; decisions.jsonl has all."
    return remark


def _commands(members: Sequence[Member]) -> dict[str, Any]:
    commands = list(
        dict.fromkeys(
            launcher(member.run.num_ranks) + shlex.join(member.run.info["environment"]["command"]) for member in members
        )
    )
    return {
        "commands": commands[:_MOST_COMMANDS],
        "num_commands_left_out": max(0, len(commands) - _MOST_COMMANDS),
    }


def _made_with(run: Run) -> dict[str, Any]:
    """Environment, engine and data, without what stands elsewhere in the page."""
    parts = {name: dict(run.info[name]) for name in ("environment", "engine", "data") if name in run.info}
    parts["environment"].pop("command", None)
    parts.get("data", {}).pop("classes", None)
    return parts
