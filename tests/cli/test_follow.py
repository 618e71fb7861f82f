"""A study is shown line by line and, on a terminal, as a table below the lines."""

import io
import time
from collections.abc import Generator
from pathlib import Path

from rich.console import Console

from lrlab.cli.follow import describe_choice, describe_plan, follow_study
from lrlab.cli.output import Output
from lrlab.config import StudyConfig, TuneConfig, parse_config
from lrlab.studies import Choice, Died, Ended, Member, Progress
from lrlab.studies.study import Happening
from lrlab.studies.tuning import Cost, Tried

STUDY = StudyConfig(name="two", seeds=[0, 1], arms={"a": {}, "b": {}}, tune=TuneConfig(rates=[0.1, 0.2], seeds=[9]))
CHOICE = Choice("a", 0.1, (Tried(0.1, (0.5, None)), Tried(0.2, (None, None))), Cost(4, 1200, 3.25), "look beyond")


def member(arm: str, seed: int, rate: float | None = None) -> Member:
    return Member(arm, seed, parse_config({}), Path(arm), rate)


def happenings() -> Generator[Happening, None, None]:
    yield member("a", 9, 0.1), Ended("complete", accuracy=0.5)
    yield CHOICE
    yield member("a", 0), Progress(1, 100, 2.5, 0.1, None)
    yield member("a", 0), Died("by SIGKILL")
    yield member("a", 0), Progress(30, 100, 1.5, 0.1, 400.0)
    time.sleep(0.4)  # the table is drawn four times a second
    yield member("a", 0), Ended("complete", accuracy=0.75)
    yield member("b", 0), Ended("failed", "no memory")
    yield member("b", 1), Ended("complete", was_there=True, accuracy=0.25)


def shown(*, is_terminal: bool) -> str:
    screen, text = Output(json=False), io.StringIO()
    screen.console = Console(file=text, force_terminal=is_terminal, width=100, color_system=None)
    followed = follow_study(screen, STUDY, happenings())
    assert followed.outcomes == {"complete": 2, "failed": 1}  # that of tuning is not one of the study's
    assert followed.rates == {"a": 0.1}
    return text.getvalue()


def test_without_a_terminal_there_are_lines_alone() -> None:
    assert shown(is_terminal=False).splitlines() == [
        "[tuning 1/4] a at 0.1 seed 9: complete, test accuracy 50.00%",
        *describe_choice(CHOICE).splitlines(),
        "a seed 0: its process ended by SIGKILL; another process continues the run",
        "[1/4] a seed 0: complete, test accuracy 75.00%",
        "[2/4] b seed 0: failed: no memory",
        "[3/4] b seed 1: complete (already there), test accuracy 25.00%",
    ]


def test_a_terminal_shows_the_table_as_well() -> None:
    text = shown(is_terminal=True)
    assert "[2/4] b seed 0: failed: no memory" in text
    assert all(word in text for word in ("30/100", "images/s", "mean accuracy", "(tuning)", "1/4", "left"))


def test_a_choice_says_what_each_rate_came_to_and_what_that_cost() -> None:
    assert describe_choice(CHOICE) == (
        "a: optimizer.lr 0.1, by validation accuracy (0.1: 25.00%, 0.2: 0.00% (diverged)); 4 runs, 1,200 updates, "
        "3.2 s of training\n  look beyond"
    )


def test_a_plan_says_how_many_runs_it_is() -> None:
    assert describe_plan(STUDY) == (
        "arms 'a', 'b' have the same configuration, so they cannot differ\n"
        "study two: 2 arms x 2 seeds = 4 runs, after 2 arms x 2 rates x 1 seeds = 4 runs that find the arms' rates on "
        "10% of the training images"
    )
    apart = STUDY.model_copy(update={"arms": {"a": {}, "b": {"schedule": {"name": "cosine"}}}, "tune": None})
    assert describe_plan(apart) == "study two: 2 arms x 2 seeds = 4 runs"
