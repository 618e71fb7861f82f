"""The report of a run or a study: one page that holds everything it shows."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lrlab.report import tables
from lrlab.report.charts import Chart, draw_charts, file_name, write_charts
from lrlab.report.confusion import confusion_figure
from lrlab.report.curves import by_arm
from lrlab.report.tuning import tuning_remarks
from lrlab.runs import Run, find_runs
from lrlab.runs.storage import FIGURES, REPORT, write_whole

_SECTIONS: Final = {
    "training": (
        "Training",
        "Each figure runs over the updates. A smoothed line is the mean of the last values, as many as its legend "
        "says (at the start of fewer, but at least a tenth), and stands before the single values where there are no "
        "more than two runs. From three seeds on, the thick line is their median, as far as all of them reach. Ticks "
        "above a figure are decays, a row for each arm; the darker, the more of its runs.",
    ),
    "grad": (
        "Gradients of the parameters",
        "L2 norm of the gradient of each layer group's parameters, of the loss of one batch; a group with more "
        "parameters has a larger one. All groups share one scale, so that they can be compared by eye.",
    ),
    "grad_out": (
        "Gradients through the outputs",
        "L2 norm, over the whole batch, of the gradient that flows back through each layer group's output. All "
        "groups share one scale, so that they can be compared by eye.",
    ),
}
_STATUS: Final = {
    "running": "is not over: this page shows what was on disk when it was written",
    "complete": "came to its end",
    "preempted": "was stopped before its end",
    "diverged": "ended when its loss was no longer a finite number",
    "failed": "ended with an error",
}


@dataclass(frozen=True)
class Picture:
    """A figure as it stands in the page."""

    title: str
    section: str
    uri: Markup
    """The PNG itself, as a data: URI."""


def write_report(path: Path) -> Path:
    """Write the figures and the page of the run or the study at a path, beside what it already holds.

    The page is one file without scripts, which loads nothing and can be sent to somebody.

    Returns: path of the page.
    Raises: RunError if there is neither a run nor a study; StorageError.
    """
    runs = find_runs(path)
    is_study = runs[0].directory != path
    confusions = _confusions(runs, is_study=is_study)
    charts = [*draw_charts(runs), *(_confusion_chart(arm, one, is_study) for arm, one in confusions.items())]
    written = write_charts(charts, path / FIGURES)
    pictures = [
        Picture(chart.title, chart.section, _data_uri(file)) for chart, file in zip(charts, written, strict=True)
    ]
    facts = _facts_of_study(path, runs) if is_study else _facts_of_run(runs[0])
    page = _render({"name": path.resolve().name, **facts, **_facts(runs), **_shown(pictures, confusions)})
    # a folder may have a name that is no text, half of a surrogate pair for instance
    write_whole(path / REPORT, page.encode("utf-8", "replace"))
    return path / REPORT


def _render(facts: dict[str, Any]) -> str:
    """Fill in the page; whatever is not Markup is escaped."""
    environment = Environment(
        loader=PackageLoader("lrlab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (files("lrlab.report") / "templates" / "report.css").read_text(encoding="utf-8")
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(facts, style=Markup(style), style_hash=Markup(style_hash))


def _facts_of_run(run: Run) -> dict[str, Any]:
    return {
        "kind": "Run",
        "summary": f"{run.status}: it {_STATUS[run.status]}.",
        "runs": tables.run_table(run),
        "arms": None,
        "remarks": [
            "n = 1: one run shows what happened once and proves nothing about its schedule. "
            "With another seed it may come out otherwise."
        ],
        "differences": None,
        "again": "lrlab train --config config.toml --run NEW",
        "again_file": "config.toml",
    }


def _facts_of_study(path: Path, runs: Sequence[Run]) -> dict[str, Any]:
    arms = by_arm(runs)
    statuses = [run.status for run in runs]
    counted = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    remarks = [
        "n counts the runs that came to their end; means are over those alone, and the others are named beside them. "
        "Nothing is tested here: whether arms differ by more than their seeds do, this page does not say."
    ]
    if any(sum(map(tables.is_counted, members)) == 1 for members in arms.values()):
        remarks.append("Where n = 1, one run proves nothing: with another seed it may come out otherwise.")
    remarks += tuning_remarks(path)
    return {
        "kind": "Study",
        "summary": f"{tables.count(len(arms), 'arm')}, {tables.count(len(runs), 'run')}: {counted}.",
        "runs": tables.runs_table(runs),
        "arms": tables.arms_table(runs),
        "remarks": remarks,
        "differences": tables.differences_table(runs),
        "again": "lrlab study study.toml",
        "again_file": "study.toml",
    }


def _facts(runs: Sequence[Run]) -> dict[str, Any]:
    """What the page of a run and that of a study have in common."""
    commands = dict.fromkeys(shlex.join(run.info["environment"]["command"]) for run in runs)
    return {
        "decisions": [
            (f"{run.arm}, seed {run.seed}", tables.decisions_summary(run), tables.decisions_table(run))
            for run in runs
            if run.decisions()
        ],
        "config": tables.settings_table(runs, lambda run: run.config),
        "made_with": tables.settings_table(runs, _made_with),
        "commands": list(commands),
    }


def _made_with(run: Run) -> dict[str, Any]:
    """Environment, engine and data, without what stands elsewhere in the page."""
    parts = {name: dict(run.info[name]) for name in ("environment", "engine", "data") if name in run.info}
    parts["environment"].pop("command", None)
    parts.get("data", {}).pop("classes", None)
    return parts


def _shown(pictures: Sequence[Picture], confusions: dict[str, tables.Confusion]) -> dict[str, Any]:
    sections = [
        (heading, note, [picture for picture in pictures if picture.section == section])
        for section, (heading, note) in _SECTIONS.items()
    ]
    matrices = [picture for picture in pictures if picture.section == "confusion"]
    return {
        "sections": [(heading, note, shown) for heading, note, shown in sections if shown],
        "errors": [
            (arm, confusion.source, picture, tables.classes_table(confusion))
            for (arm, confusion), picture in zip(confusions.items(), matrices, strict=True)
        ],
    }


def _confusions(runs: Sequence[Run], *, is_study: bool) -> dict[str, tables.Confusion]:
    """Return the matrix of each arm: of a study's runs that came to their end, of a run alone however it stands."""
    found = {
        arm: tables.last_confusion([run for run in members if tables.is_counted(run) or not is_study])
        for arm, members in by_arm(runs).items()
    }
    return {arm: confusion for arm, confusion in found.items() if confusion is not None}


def _confusion_chart(arm: str, confusion: tables.Confusion, is_study: bool) -> Chart:
    num_correct = sum(row[index] for index, row in enumerate(confusion.counts))
    title = f"{arm}: {tables.percent(num_correct / sum(map(sum, confusion.counts)))} right"
    figure = confusion_figure(confusion.counts, confusion.classes, title=title)
    return Chart(file_name("confusion", arm) if is_study else "confusion", title, "confusion", figure)


def _data_uri(png: Path) -> Markup:
    return Markup("data:image/png;base64,") + base64.b64encode(png.read_bytes()).decode()
