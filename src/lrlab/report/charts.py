"""The article's figures, for one run or for several laid over each other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lrlab.report.curves import Curve, read_accuracy, read_column, split_name
from lrlab.report.drawing import Quantity, draw_quantity, share_limits
from lrlab.report.style import short_text, to_png
from lrlab.runs import Run
from lrlab.runs.storage import storage_errors, write_whole


@dataclass(frozen=True)
class Chart:
    """One of a report's figures."""

    name: str
    """Of its file, without the suffix."""
    title: str
    section: str
    """training, grad, grad_out or confusion: the figures of a section belong together."""
    figure: Figure


def write_figures(runs: Sequence[Run], directory: Path) -> list[Path]:
    """Write the article's figures as PNG: lr, loss, accuracy, and grad_<group> and grad_out_<group> for each group.

    Args:
        runs: at least one; those of an arm (see `Run.arm`) share a colour.
        directory: made if it is not there; figures of the same name in it are replaced.
    Returns: paths of the figures; there is none for a quantity that no run has recorded yet.
    Raises: StorageError.
    """
    return write_charts(draw_charts(runs), directory)


def write_charts(charts: Sequence[Chart], directory: Path) -> list[Path]:
    """Write figures as PNG into a directory, which is made if it is not there."""
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{name}.png" for name in _distinct([chart.name for chart in charts])]
    for path, chart in zip(paths, charts, strict=True):
        write_whole(path, to_png(chart.figure))
    return paths


def draw_charts(runs: Sequence[Run]) -> list[Chart]:
    """Draw what `write_figures` writes."""
    sections = {
        "training": _training_quantities(runs),
        "grad": _gradient_quantities(
            runs, "grad", of="gradient of the parameters", label="L2 norm of the parameters' gradient"
        ),
        "grad_out": _gradient_quantities(
            runs, "grad_out", of="gradient through the output", label="L2 norm of the output's gradient"
        ),
    }
    charts = []
    for section, quantities in sections.items():
        drawn = [(quantity, draw_quantity(quantity, runs)) for quantity in quantities]
        figures = [(quantity, figure) for quantity, figure in drawn if figure is not None]
        if section != "training":
            share_limits([figure for _, figure in figures])
        charts += [Chart(quantity.name, quantity.title, section, figure) for quantity, figure in figures]
    return charts


def _training_quantities(runs: Sequence[Run]) -> list[Quantity]:
    loss, split = partial(read_column, column="train/loss"), split_name(runs)
    return [
        Quantity("loss", "Training loss", "mean cross-entropy of a batch", loss, "from zero", "updates"),
        Quantity("accuracy", f"{split.capitalize()} accuracy", f"share of the {split} set", read_accuracy, "share"),
        *_rate_quantities(runs),
    ]


def _rate_quantities(runs: Sequence[Run]) -> list[Quantity]:
    """One figure for the rate that all groups share, or one for each group where they do not."""
    if all(_same_rates(run) for run in runs):
        return [Quantity("lr", "Learning rate", "learning rate", _read_shared_rate, "log")]
    return [
        Quantity(
            file_name("lr", group),
            f"{short_text(group, limit=24)}: learning rate",
            "learning rate",
            partial(read_column, column=f"lr/{group}"),
            "log",
        )
        for group in _groups(runs, "lr")
    ]


def _same_rates(run: Run) -> bool:
    rates = [run.series(f"lr/{group}")[1] for group in _groups([run], "lr")]
    return all(np.array_equal(rate, rates[0]) for rate in rates)


def _read_shared_rate(run: Run) -> Curve:
    """The rate of any group; under no name, and so nothing, for a run that has recorded none."""
    return read_column(run, f"lr/{next(iter(_groups([run], 'lr')), '')}")


def _gradient_quantities(runs: Sequence[Run], prefix: str, *, of: str, label: str) -> list[Quantity]:
    return [
        Quantity(
            file_name(prefix, group),
            f"{short_text(group, limit=24)}: {of}",
            label,
            partial(read_column, column=f"{prefix}_l2/{group}"),
            "log",
            "measurements",
        )
        for group in _groups(runs, f"{prefix}_l2")
    ]


def _groups(runs: Sequence[Run], quantity: str) -> list[str]:
    """Names of the layer groups that have a quantity in any run, in the order of the columns."""
    columns = dict.fromkeys(column for run in runs for column in run.columns)
    return [column.removeprefix(f"{quantity}/") for column in columns if column.startswith(f"{quantity}/")]


def file_name(prefix: str, name: str) -> str:
    """A name that stays in its folder, whatever a group or an arm is called."""
    return f"{prefix}_{re.sub('[^A-Za-z0-9._-]', '_', name)[:80]}"


def _distinct(names: Sequence[str]) -> list[str]:
    """Number the files that would otherwise have the same name, on a disk that knows no capitals too."""
    taken: Counter[str] = Counter()
    distinct = []
    for name in names:
        taken[name.casefold()] += 1
        count = taken[name.casefold()]
        distinct.append(name if count == 1 else f"{name}~{count}")
    return distinct
