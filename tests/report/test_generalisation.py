"""What a report shows of how well runs generalise."""

import json
from pathlib import Path

import pytest

from lrlab.report import write_report
from lrlab.report.generalisation import draw_generalisation, generalisation_source, generalisation_table
from lrlab.report.members import read_members
from lrlab.runs import Run, read_run


def finding(accuracy: float, *, probe: bool = True) -> dict[str, object]:
    bins = [
        {"low": 0.0, "high": 0.5, "count": 30, "confidence": 0.4, "accuracy": accuracy},
        {"low": 0.5, "high": 0.9, "count": 9, "confidence": 0.6, "accuracy": 1.0},  # 18 in two runs: too few
        {"low": 0.9, "high": 1.0, "count": 0, "confidence": None, "accuracy": None},
    ]
    fitted = {"data": "digits", "train_images": 1438, "test_images": 359, "accuracy": 0.9}
    return {
        "step": 10, "split": "test", "images": 39, "train_images": 39, "accuracy": accuracy, "ece": 0.25,
        "corrupted_accuracy": accuracy / 2, "reliability": bins,
        "corruptions": {"noise": [accuracy - 0.1 * s for s in range(5)], "blur": [accuracy] * 5},
        "linear_probe": fitted if probe else None,
    }  # fmt: skip


@pytest.fixture
def runs(make_study) -> list[Run]:
    made = make_study({"<b>a": [{}, {}], "b": [{}, {}]})
    for run, accuracy in zip(made, (0.8, 0.6, None, None), strict=True):
        if accuracy is not None:
            info = json.loads((run.directory / "run.json").read_text())
            (run.directory / "run.json").write_text(json.dumps({**info, "generalisation": finding(accuracy)}))
    return [read_run(run.directory) for run in made]


def test_the_table_has_a_row_for_each_figure_and_each_kind(runs: list[Run]) -> None:
    table = generalisation_table(read_members(runs))
    assert table is not None
    assert list(table.header) == ["", "<b>a (n = 2)"]
    rows = {row[0]: row[1] for row in table.rows}
    assert rows["accuracy"] == "0.7000 (0.6000 to 0.8000)"
    assert rows["expected calibration error"] == "0.2500 (0.2500 to 0.2500)"
    assert rows["accuracy under noise, mean of five strengths"] == "0.5000 (0.4000 to 0.6000)"
    assert rows["linear probe on other images"] == "0.9000 (0.9000 to 0.9000)"
    assert "loss" not in rows  # not in these
    source = generalisation_source(read_members(runs))
    assert source == (
        "Of 39 test images and as many training images; "
        "linear probe on digits, 1,438 images fitted and 359 tested."
    )  # fmt: skip


def test_the_picture_shows_reliability_over_all_runs_and_the_mean_over_the_kinds(runs: list[Run]) -> None:
    figure = draw_generalisation(read_members(runs))
    assert figure is not None
    reliability, corrupted = figure.axes
    lines = {line.get_label(): line for line in (*reliability.lines, *corrupted.lines)}
    assert lines["<b>a reliability"].get_xydata().tolist() == [[pytest.approx(0.4), pytest.approx(0.7)]]
    expected = [0.7 - 0.05 * strength for strength in range(5)]
    assert lines["<b>a corrupted"].get_ydata() == pytest.approx(expected)
    assert not any(str(label).startswith("b ") for label in lines)


def test_the_page_holds_both_and_is_silent_where_nothing_was_measured(runs: list[Run], make_run) -> None:
    folder = runs[0].directory.parent.parent
    page = write_report(folder).read_text()
    assert '<img src="data:image/png;base64,' in page
    assert "How well it generalises" in page and "&lt;b&gt;a (n = 2)" in page
    assert (folder / "figures" / "generalisation.png").exists()
    silent = write_report(make_run("silent").directory).read_text()
    assert "How well it generalises" not in silent
    assert draw_generalisation(read_members([make_run("other")])) is None


def test_of_one_run_there_is_no_spread(make_run) -> None:
    run = make_run("alone")
    info = json.loads((run.directory / "run.json").read_text())
    (run.directory / "run.json").write_text(json.dumps({**info, "generalisation": finding(0.8, probe=False)}))
    members = read_members([read_run(Path(run.directory))])
    table = generalisation_table(members)
    assert table is not None
    assert dict(table.rows)["accuracy"] == "0.8000"  # type: ignore[arg-type]
    assert generalisation_source(members) == "Of 39 test images and as many training images."
