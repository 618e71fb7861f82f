"""The report of a run, a study, or several: one page that holds everything it shows, and the figures beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from lrlab.report import tables
from lrlab.report.arms import draw_arms, draw_differences
from lrlab.report.charts import Chart, draw_charts, file_name, make_charts, write_files
from lrlab.report.confusion import confusion_figure
from lrlab.report.document import to_document, to_json
from lrlab.report.generalisation import draw_generalisation, generalisation_source, generalisation_table
from lrlab.report.matrices import collect_matrices
from lrlab.report.members import Member, by_arm, read_members
from lrlab.report.pairs import Pairs, compare_pairs
from lrlab.report.sections import describe
from lrlab.report.style import to_png
from lrlab.runs import RunError, find_runs
from lrlab.runs.storage import FIGURES, REPORT, check_no_links, storage_errors, write_whole

_PLOTLY: Final = "package_data/plotly.min.js"


def write_report(*paths: Path | str, directory: Path | str | None = None) -> Path:
    """Write the figures and the page of a run, of a study, or of several laid over each other.

    The page is one file that loads nothing and can be sent to somebody.

    Args:
        paths: each a run or a study; at least one.
        directory: for the page and the figures, made if it is not there; without one, that of the run or study.
    Returns: path of the page.
    Raises: RunError if a path holds neither run nor study, or if several are given no directory; StorageError.
    """
    if directory is None and len(paths) != 1:
        raise RunError("A report on several paths needs a folder of its own: name it with --out DIR.")
    places = [Path(path) for path in paths]
    folder = places[0] if directory is None else Path(directory)
    runs = {run.directory.resolve(): run for place in places for run in find_runs(place)}
    members = read_members(runs.values())
    is_study = len(places) > 1 or members[0].run.directory != places[0]
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    check_no_links(folder, FIGURES)
    charts = make_charts(members)
    confusions = _confusions(members, is_study=is_study)
    pairs = compare_pairs([member.run for member in members]) if is_study else None
    write_files(_figures(members, charts, confusions, pairs), folder / FIGURES)
    collection = collect_matrices(members, is_study=is_study)
    document = to_document(members, charts, collection.matrices, pairs)
    num_marked = sum(sum(arm["numbers"]) for arm in document["decays"])
    page = _render(
        {
            "name": (folder if len(places) > 1 else places[0]).resolve().name,
            **describe(
                places,
                members,
                charts,
                confusions,
                num_marked=num_marked,
                is_study=is_study,
                is_beside=directory is None,
            ),
            "pairs": pairs,
            "has_accuracy": is_study and any(member.is_counted for member in members),
            "matrices": [(index, one.label) for index, one in enumerate(collection.matrices)],
            "matrix_remarks": collection.remarks,
            **_generalisation(members),
            "document": Markup(to_json(document)),
        }
    )
    # a folder may have a name that is no text, half of a surrogate pair for instance
    write_whole(folder / REPORT, page.encode("utf-8", "replace"))
    return folder / REPORT


def _render(facts: dict[str, Any]) -> str:
    """Fill in the page; whatever is not Markup is escaped."""
    environment = Environment(
        loader=PackageLoader("lrlab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates = files("lrlab.report") / "templates"
    style, script = ((templates / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    plotly = (files("plotly") / _PLOTLY).read_text(encoding="utf-8")
    return environment.get_template("report.html.j2").render(
        facts,
        style=Markup(style),
        scripts=[Markup(plotly), Markup(script)],
        script_hashes=Markup(" ".join(f"'sha256-{_sha256(code)}'" for code in (plotly, script))),
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _generalisation(members: Sequence[Member]) -> dict[str, Any]:
    """What the page says of it: a table, what that is of, and a picture as a data URL; None where nothing is known."""
    figure = draw_generalisation(members)
    if figure is None:
        return {"generalisation": None}
    picture = base64.b64encode(to_png(figure)).decode()
    source = generalisation_source(members)
    return {"generalisation": (generalisation_table(members), source, f"data:image/png;base64,{picture}")}


def _confusions(members: Sequence[Member], *, is_study: bool) -> dict[str, tables.Confusion]:
    """Return the matrix of each arm: of a study's runs that came to their end, of a run alone however it stands."""
    found = {
        arm: tables.last_confusion([member for member in seeds if member.is_counted or not is_study])
        for arm, seeds in by_arm(members).items()
    }
    return {arm: confusion for arm, confusion in found.items() if confusion is not None}


def _figures(
    members: Sequence[Member], charts: Sequence[Chart], confusions: dict[str, tables.Confusion], pairs: Pairs | None
) -> Iterator[tuple[str, Figure]]:
    """Draw figure by figure what is written beside the page."""
    yield from draw_charts(charts)
    generalisation = draw_generalisation(members)
    if generalisation is not None:
        yield "generalisation", generalisation
    by_arms = draw_arms(members) if pairs is not None else None
    if by_arms is not None:
        yield "accuracy_by_arm", by_arms
    if pairs is not None and pairs.dots:
        yield "differences", draw_differences(pairs.dots, title=pairs.title)
    for arm, confusion in confusions.items():
        num_correct = sum(row[index] for index, row in enumerate(confusion.counts))
        title = f"{arm}: {tables.percent(num_correct / sum(map(sum, confusion.counts)))} right"
        figure = confusion_figure(confusion.counts, confusion.classes, title=title)
        yield "confusion" if pairs is None else file_name("confusion", arm), figure
