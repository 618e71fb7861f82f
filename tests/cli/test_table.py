"""The live table of a study says how every run and every arm stands."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from lrlab.cli import table as table_module
from lrlab.cli.output import Output, broken
from lrlab.cli.table import StudyTable, duration
from lrlab.config import parse_config
from lrlab.studies import Died, Ended, Member, Progress


def member(arm: str, seed: int, rate: float | None = None) -> Member:
    return Member(arm, seed, parse_config({}), Path(arm) / f"seed{seed}", rate)


def progress(step: int, num_steps: int = 100) -> Progress:
    return Progress(step, num_steps, loss=1.25, lr=3e-3, images_per_second=1234.5)


def drawn(table: StudyTable) -> list[list[str]]:
    """Words of each line."""
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_runs_under_way_have_a_row_and_arms_a_sum() -> None:
    table = StudyTable(tuning=0, arms={"a": 3, "b": 3})
    table.take(member("a", 0), Ended("complete", was_there=True, accuracy=0.5))
    table.take(member("a", 1), Ended("complete", accuracy=0.7))
    table.take(member("b", 0), Ended("diverged", "at update 3"))
    table.take(member("b", 1), Ended("failed", "no memory"))
    table.take(member("a", 2), progress(1))
    table.take(member("a", 2), progress(50))
    table.take(member("b", 2), progress(1))
    table.take(member("b", 2), Died("by SIGKILL"))
    lines = drawn(table)
    runs = [line for line in lines if "/100" in " ".join(line)]
    assert [(line[:4], line[-3:]) for line in runs] == [(["a", "seed", "2", "50/100"], ["1.250", "3.0e-03", "1,234"])]
    assert ["a", "2/3", "1", "60.00%"] in lines
    assert ["b", "1/3", "1"] in lines  # a diverged one is done, and none is running


def test_runs_by_which_rates_are_found_have_a_row_of_their_own() -> None:
    table = StudyTable(tuning=4, arms={"a": 1})
    table.take(member("a", 1000, 0.1), Ended("complete", accuracy=0.9))
    table.take(member("a", 1000, 0.01), progress(10))
    assert ["(tuning)", "1/4", "1"] in drawn(table)
    assert ["a", "0/1"] in drawn(table)


def test_names_are_text_and_nothing_else() -> None:
    table = StudyTable(tuning=0, arms={"[red]a": 1})
    table.take(member("[red]a", 0), progress(1))
    assert {"[red]a"} <= {line[0] for line in drawn(table) if line}


def test_the_time_left_is_that_of_the_runs_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(table_module.time, "monotonic", lambda: now)
    table = StudyTable(tuning=0, arms={"a": 5})
    table.take(member("a", 0), Ended("complete", was_there=True, accuracy=0.5))
    assert table.seconds_left() is None
    now = 60.0
    table.take(member("a", 1), Ended("complete", accuracy=0.5))
    assert table.seconds_left() == 3 * 60
    table.take(member("a", 2), progress(51))  # it goes on from a checkpoint of update 50
    table.take(member("a", 2), progress(100))
    now = 90.0
    assert table.seconds_left() == pytest.approx(2 * 90 / 1.5)  # one and a half runs in 90 s; two are left


@pytest.mark.parametrize(
    ("name", "width", "lines"),
    [
        ("decay/constant/seed0", 16, ["decay/constant/", "seed0"]),
        ("decay/constant/seed0", 20, ["decay/constant/seed0"]),
        ("cosine - constant", 10, ["cosine - ", "constant"]),
        ("abcdefghij/k", 4, ["abcd", "efgh", "ij/k"]),
        ("--", 1, ["-", "-"]),
        ("\u5199\u771f/\u5199", 5, ["\u5199\u771f/", "\u5199"]),
        ("\u5199\u771f", 1, ["\u5199", "\u771f"]),
        ("", 5, [""]),
    ],
)
def test_a_name_is_broken_between_its_words(name: str, width: int, lines: list[str]) -> None:
    assert broken(name, width).split("\n") == lines


def test_a_table_fits_a_narrow_terminal_where_its_names_can_be_broken() -> None:
    screen, text = Output(json=False), io.StringIO()
    screen.console = Console(file=text, width=40, color_system=None, force_terminal=True)
    screen.table(("run", "status"), [("a-long-name/of-an-arm/with-a-seed/0", "complete")])
    assert [line.rstrip() for line in text.getvalue().splitlines()[2:]] == [
        "a-long-name/of-an-arm/with-a-  complete", "seed/0"
    ]  # fmt: skip


def test_a_table_that_cannot_fit_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    screen, text = Output(json=False), io.StringIO()
    screen.console = Console(file=text, width=40, color_system=None)
    screen.table(("run", "schedule", "status"), [("a-name-of-20-letters", "C" * 30, "preempted" * 2)])
    shown = text.getvalue()
    assert all(word in shown for word in ("C" * 30, "preempted" * 2, "run", "schedule", "a-name-of-"))


def test_no_column_is_left_out_and_no_number_is_cut_where_the_terminal_is_narrow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    row = ("cosine-with-a-longer-name", "5", "+1.80 to +2.28", "<0.0001", "none")
    Output(json=False).table(("arm", "n", "95 % interval", "p", "seeds not counted"), [row])
    words = capsys.readouterr().out.split()
    assert {"cosine-with-a-", "+1.80", "+2.28", "<0.0001", "none", "arm", "counted"} <= set(words)


def test_what_goes_into_a_file_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    screen, text = Output(json=False), io.StringIO()
    screen.console = Console(file=text, color_system=None)
    screen.table(("run", "status"), [("a/" * 60, "complete")])
    assert "a/" * 60 in text.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "7 s"), (61, "1 min 01 s"), (3_720, "1 h 02 min")])
def test_durations_are_said_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
