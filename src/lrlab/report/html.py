"""The report of a run or a study: one page that holds everything it shows."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lrlab.report import tables
from lrlab.report.charts import draw_charts, safe_name, write_charts
from lrlab.report.confusion import confusion_png
from lrlab.report.curves import by_arm
from lrlab.runs import Run, find_runs
from lrlab.runs.storage import FIGURES, REPORT, write_whole

_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("lrlab.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_STATUS: Final = {
    "running": "not over yet: what stands here is what was on disk when this page was written",
    "complete": "came to its end",
    "preempted": "was stopped before its end; everything up to there was kept",
    "diverged": "ended because its loss was no longer a finite number",
    "failed": "ended with an error",
}


@dataclass(frozen=True)
class Section:
    """Figures that belong together."""

    name: str
    note: str
    """How to read them."""
    charts: list[Chart]


@dataclass(frozen=True)
class Errors:
    """What an arm, or a run alone, takes for what."""

    arm: str
    source: str
    """Which evaluations are in it."""
    chart: Chart
    classes: tables.Table


def write_report(path: Path) -> Path:
    """Write the figures and the page of the run or the study at a path, beside what it already holds.

    The page is one file without scripts, which loads nothing and can be sent to somebody.

    Returns: path of the page.
    Raises: RunError if there is neither a run nor a study; StorageError.
    """
    runs = find_runs(path)
    charts = draw_charts(runs)
    errors = _errors(runs)
    every_chart = with_distinct_names([*charts, *(one.chart for one in errors)])
    written = write_charts(every_chart, path / FIGURES)
    images = {chart.title: _data_uri(file) for chart, file in zip(every_chart, written, strict=True)}
    page = path / REPORT
    text = _render(path, runs, sections=_sections(charts), errors=errors, images=images)
    # a folder may have a name that is no text: half of a surrogate pair
    write_whole(page, text.encode("utf-8", "replace"))
    return page
