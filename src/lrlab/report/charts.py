"""The article's charts, for one run or for several laid over each other, and how figures are written as files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from matplotlib.figure import Figure

from lrlab.report.drawing import draw_panel
from lrlab.report.limits import Limits, Scale, panel_limits, share_limits
from lrlab.report.members import Member, read_members, split_name
from lrlab.report.panels import Panel, Quantity, Section, make_panels, merge_alike
from lrlab.report.style import short_text, styled, to_png, to_svg
from lrlab.runs import Run
from lrlab.runs.storage import storage_errors, write_whole

_EDGES: Final = {"hessian_max": "hessian_edge", "preconditioned_max": "preconditioned_edge"}
"""Quantity -> the one that it is held against."""
_LAYERS: Final[Mapping[Section, tuple[str, str, str, Scale]]] = {
    "grad": ("grad_l2", "gradient of the parameters", "L2 norm of the gradient", "log"),
    "grad_out": ("grad_out_l2", "gradient through the output", "L2 norm of the gradient", "log"),
    "update": ("update_ratio", "update over weights", "length over that of the weights", "log"),
    "cosine": ("grad_cosine", "cosine of successive gradients", "cosine with the gradient before", "signed"),
    "snr": ("adam_snr", "signal to noise in Adam's moments", "first moment squared over the second", "log"),
    "noise": ("noise_scale", "noise scale of the gradient", "noise scale, examples", "log"),
    "dead": ("dead_relu", "dead ReLUs", "share of units without a gradient", "share"),
    "weight": ("weight_l2", "weights", "L2 norm of the weights", "log"),
    "sharpness": ("hessian_max", "sharpness", "largest eigenvalue of the Hessian", "log"),
    "preconditioned": ("preconditioned_max", "sharpness as Adam sees it", "largest eigenvalue, preconditioned", "log"),
    "trace": ("hessian_trace", "trace of the Hessian", "trace of the Hessian", "signed"),
    "sam": ("sam_sharpness", "SAM sharpness", "rise of the loss along its gradient", "signed"),
}
"""Section -> a quantity that each layer group has, what it is, the label of its axis, and the axis' scale."""


class Chart(NamedTuple):
    """A panel with its vertical axis, which it may share with others of its section."""

    panel: Panel
    limits: Limits


def make_charts(members: Sequence[Member]) -> list[Chart]:
    """Return loss, accuracy, lr, and what each layer group has, as far as a run has recorded them.

    The rate is one chart where all groups have the same, else one for each group.
    """
    rates = [_of_group("lr", group, "learning rate") for group in _groups(members, "lr")]
    training = _training_quantities(members)
    panels = make_panels([*training, *rates, *_layer_quantities(members)], members)
    shared = Quantity("lr", "training", "Learning rate", "learning rate", None, "log")
    lr = merge_alike([panel for panel in panels if panel.quantity in rates], shared)
    charts = [Chart(panel, panel_limits(panel)) for panel in panels if panel.quantity in training]
    charts += [Chart(*chart) for chart in zip(lr, share_limits([panel_limits(panel) for panel in lr]), strict=True)]
    for section in _LAYERS:
        alike = [panel for panel in panels if panel.quantity.section == section]
        limits = share_limits([panel_limits(panel) for panel in alike])
        charts += [Chart(*chart) for chart in zip(alike, limits, strict=True)]
    return charts


def write_figures(runs: Sequence[Run], directory: Path | str) -> list[Path]:
    """Write the article's figures as PNG and SVG: lr, loss, accuracy, and grad_<group> and grad_out_<group> by group.

    Args:
        runs: at least one; those of an arm (see `Run.arm`) share a colour.
        directory: made if it is not there; figures of the same name in it are replaced.
    Returns: paths of the PNG files; there is none for a quantity that no run has recorded yet.
    Raises: StorageError.
    """
    return write_files(draw_charts(make_charts(read_members(runs))), Path(directory))


def write_files(figures: Iterable[tuple[str, Figure]], directory: Path) -> list[Path]:
    """Write figures, given with the names of their files, one after another: they need not all be there at once."""
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    taken: Counter[str] = Counter()
    paths = []
    for wanted, figure in figures:
        name = _distinct(wanted, taken)
        _lay_out(figure)
        write_whole(directory / f"{name}.svg", to_svg(figure))
        write_whole(directory / f"{name}.png", to_png(figure))
        paths.append(directory / f"{name}.png")
    return paths


def draw_charts(charts: Iterable[Chart]) -> Iterable[tuple[str, Figure]]:
    """Draw charts one by one, each with the name of its files."""
    for panel, limits in charts:
        yield panel.quantity.name, draw_panel(panel, limits)


def file_name(prefix: str, name: str) -> str:
    """A name that stays in its folder, whatever a group or an arm is called."""
    return f"{prefix}_{re.sub('[^A-Za-z0-9._-]', '_', name)[:80]}"


@styled
def _lay_out(figure: Figure) -> None:
    """Place everything once for both files: to do so for each takes as long as to draw them."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def _training_quantities(members: Sequence[Member]) -> list[Quantity]:
    split = split_name(members)
    return [
        Quantity(
            "loss", "training", "Training loss", "mean cross-entropy of a batch", "train/loss", "from zero", "values"
        ),
        Quantity("accuracy", "training", f"{split.capitalize()} accuracy", f"share of the {split} set", None, "share"),
    ]


def _layer_quantities(members: Sequence[Member]) -> list[Quantity]:
    return [
        Quantity(
            file_name(section, group),
            section,
            f"{short_text(group, limit=24)}: {of}",
            label,
            f"{quantity}/{group}",
            scale,
            "measurements",
            f"{_EDGES[quantity]}/{group}" if quantity in _EDGES else None,
        )
        for section, (quantity, of, label, scale) in _LAYERS.items()
        for group in _groups(members, quantity)
    ]


def _of_group(prefix: str, group: str, what: str) -> Quantity:
    title = f"{short_text(group, limit=24)}: {what}"
    return Quantity(file_name(prefix, group), "training", title, what, f"{prefix}/{group}", "log")


def _groups(members: Sequence[Member], quantity: str) -> list[str]:
    """Names of the layer groups that have a quantity in any run, in the order of the columns."""
    columns = dict.fromkeys(column for member in members for column in member.run.columns)
    return [column.removeprefix(f"{quantity}/") for column in columns if column.startswith(f"{quantity}/")]


def _distinct(name: str, taken: Counter[str]) -> str:
    """Number a file that would otherwise have the name of another, on a disk that knows no capitals too."""
    taken[name.casefold()] += 1
    count = taken[name.casefold()]
    return name if count == 1 else f"{name}~{count}"
