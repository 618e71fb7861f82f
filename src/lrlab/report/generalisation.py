"""How well the runs of a report generalise, where that was measured: a table of figures, and a picture of two parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter

from lrlab.report.members import Member, by_arm
from lrlab.report.style import DPI, FAINT, MUTED, line_style, short_text, styled
from lrlab.report.tables import Table
from lrlab.runs.afterwards import GENERALISATION, figures

_WORDS: Final = {
    "accuracy": "accuracy",
    "train_accuracy": "accuracy on training images",
    "accuracy_gap": "gap of the accuracies, training minus held out",
    "loss": "loss",
    "train_loss": "loss on training images",
    "loss_gap": "gap of the losses, held out minus training",
    "ece": "expected calibration error",
    "confidence": "mean confidence",
    "corrupted_accuracy": "accuracy, mean over all corruptions",
    "mirror_consistency": "same prediction for the mirror image",
    "shift_consistency": "same prediction one pixel further",
    "linear_probe_accuracy": "linear probe on other images",
}
"""Figure -> what it is, in the order of the table."""


_FEWEST_IN_BIN: Final = 20
"""Images that a point of the reliability picture rests on: fewer would show noise."""


def generalisation_table(members: Sequence[Member]) -> Table | None:
    """List each figure and the accuracy under each corruption: mean over an arm's runs, with the least and largest."""
    arms = _measured(members)
    if not arms:
        return None
    rows = []
    for name, words in _WORDS.items():
        values = [[figures(one)[name] for one in found if name in figures(one)] for found in arms.values()]
        if any(values):
            rows.append((words, *map(_spread, values)))
    for kind in next(iter(arms.values()))[0]["corruptions"]:
        means = [[float(np.mean(one["corruptions"][kind])) for one in found] for found in arms.values()]
        rows.append((f"accuracy under {kind}, mean of five strengths", *map(_spread, means)))
    return Table(("", *(f"{arm} (n = {len(found)})" for arm, found in arms.items())), rows)


def generalisation_source(members: Sequence[Member]) -> str:
    """Say what the figures are of."""
    findings = [one for found in _measured(members).values() for one in found]
    images = sorted({(one["images"], one["split"]) for one in findings})
    counted = " or ".join(f"{number:,} {split} images" for number, split in images)
    probes = sorted({_probe(one) for one in findings if one["linear_probe"]})
    return "; ".join([f"Of {counted} and as many training images", *probes]) + "."


@styled
def draw_generalisation(members: Sequence[Member]) -> Figure | None:
    """Draw reliability, and the accuracy over the strength of corruptions; None where neither was measured."""
    arms = _measured(members)
    if not arms:
        return None
    indices = {arm: index for index, arm in enumerate(by_arm(members))}
    figure = Figure((9.4, 4.2), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.07))
    reliability, corrupted = figure.subplots(1, 2)
    for arm, findings in arms.items():
        style = line_style(indices[arm])
        confidence, accuracy = _reliability(findings)
        reliability.plot(confidence, accuracy, **style, marker="o", markersize=3, label=f"{arm} reliability")
        curves = np.array([np.mean(list(one["corruptions"].values()), axis=0) for one in findings])
        strengths = range(1, curves.shape[1] + 1)
        for curve in curves if len(curves) > 1 else ():
            corrupted.plot(strengths, curve, color=style["color"], linewidth=0.6, alpha=0.4)
        (line,) = corrupted.plot(strengths, curves.mean(0), **style, linewidth=2, marker="o", markersize=3)
        line.set_label(f"{arm} corrupted")
    reliability.plot([0, 1], [0, 1], color=FAINT, linestyle=":", zorder=1)
    _finish(reliability, "Reliability", "confidence", "share that is right")
    reliability.set_xlim(0, 1)
    reliability.set_ylim(0, 1.02)  # room for the points at the top
    reliability.xaxis.set_major_formatter(PercentFormatter(1))
    reliability.text(0.03, 0.95, "above the diagonal: too modest", fontsize=8, color=MUTED, va="top")
    reliability.text(0.97, 0.03, "below: too sure", fontsize=8, color=MUTED, ha="right")
    _finish(corrupted, "Accuracy under corruptions, mean of all kinds", "strength", "share that is right")
    corrupted.set_xticks(range(1, 6))
    labels = [f"{short_text(arm, limit=32)} (n = {len(findings)})" for arm, findings in arms.items()]
    handles = [next(one for one in corrupted.lines if one.get_label() == f"{arm} corrupted") for arm in arms]
    legend = figure.legend(handles, ["arm"] * len(labels), loc="outside lower left", ncols=min(3, len(labels)))
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label)
    return figure


def _measured(members: Sequence[Member]) -> dict[str, list[Mapping[str, Any]]]:
    """Arm -> what was found of each of its runs; arms without any are left out."""
    found = {
        arm: [member.run.info[GENERALISATION] for member in seeds if member.run.info.get(GENERALISATION)]
        for arm, seeds in by_arm(members).items()
    }
    return {arm: findings for arm, findings in found.items() if findings}


def _reliability(findings: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Confidence and accuracy of each bin over the examples of all runs, where there are enough of them."""
    confidences, accuracies = [], []
    for bins in zip(*(one["reliability"] for one in findings), strict=True):
        number = sum(one["count"] for one in bins)
        if number >= _FEWEST_IN_BIN:
            confidences.append(sum(one["count"] * (one["confidence"] or 0) for one in bins) / number)
            accuracies.append(sum(one["count"] * (one["accuracy"] or 0) for one in bins) / number)
    return confidences, accuracies


def _finish(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def _probe(finding: Mapping[str, Any]) -> str:
    probe = finding["linear_probe"]
    return (
        f"linear probe on {probe['data']}, {probe['train_images']:,} images fitted and {probe['test_images']:,} tested"
    )


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "\N{EN DASH}"
    mean = f"{np.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f} to {max(values):.4f})"
