"""What a person sees while a study goes: a line for each run that ended and, on a terminal, a table of all runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field

from rich.live import Live

from lrlab.cli.output import Output
from lrlab.cli.signals import stop_requests
from lrlab.cli.table import StudyTable
from lrlab.config import StudyConfig
from lrlab.studies import Choice, Died, Ended, Member
from lrlab.studies.study import Happening


@dataclass
class Followed:
    """What came of a study."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """How many of its runs ended in which way, tuning apart."""
    rates: dict[str, float] = field(default_factory=dict)
    """The rate that was chosen for each arm, where they are tuned."""


def describe_plan(study: StudyConfig) -> str:
    """Say how many runs a study is."""
    text = f"study {study.name}: {len(study.arms)} arms x {len(study.seeds)} seeds = {_num_runs(study)} runs"
    for alike in _same_arms(study):
        text = f"arms {', '.join(map(repr, alike))} have the same configuration, so they cannot differ\n{text}"
    if study.tune is None:
        return text
    tune = study.tune
    return (
        f"{text}, after {len(study.arms)} arms x {len(tune.rates)} rates x {len(tune.seeds)} seeds = "
        f"{_num_tuning(study)} runs that find the arms' rates on {tune.validation_fraction:.0%} of the training images"
    )


def follow_study(screen: Output, study: StudyConfig, happenings: Generator[Happening, None, None]) -> Followed:
    """Show a study to its end, and return what came of it.

    Raises: Stopped after a signal, the runs under way being saved.
    """
    followed, num_ended = Followed(), Counter[bool]()
    totals = {True: _num_tuning(study), False: _num_runs(study)}
    table = StudyTable(tuning=totals[True], arms=dict.fromkeys(study.arms, len(study.seeds)))
    is_live = screen.console.is_terminal
    live = Live(table, console=screen.console, transient=True, auto_refresh=is_live)
    with stop_requests() as stop, closing(happenings):
        if is_live:
            live.start()
        try:
            for happening in happenings:
                if stop.number is not None:
                    break
                if isinstance(happening, Choice):
                    followed.rates[happening.arm] = happening.lr
                    screen.say(describe_choice(happening))
                    continue
                member, event = happening
                table.take(member, event)
                is_tuning = member.rate is not None
                if isinstance(event, Ended):
                    num_ended[is_tuning] += 1
                    if not is_tuning:
                        followed.outcomes[event.outcome] += 1
                    number = f"[{'tuning ' * is_tuning}{num_ended[is_tuning]}/{totals[is_tuning]}]"
                    screen.say(f"{number} {describe_end(member, event)}")
                elif isinstance(event, Died):
                    screen.say(f"{member.name}: its process ended {event.how}; another process continues the run")
        finally:
            live.stop()
        if stop.number is not None:
            ended = f"{sum(num_ended.values())} of {sum(totals.values())} runs have ended"
            screen.say(f"{ended}; repeat the command to continue with the others")
    return followed


def describe_end(member: Member, ended: Ended) -> str:
    """Say how a run of a study ended."""
    text = f"{member.name}: {ended.outcome}"
    text += " (already there)" if ended.was_there else ""
    if ended.message:
        return f"{text}: {ended.message}"
    return f"{text}, {member.config.data.evaluated_split} accuracy {ended.accuracy:.2%}"


def describe_choice(choice: Choice) -> str:
    """Say which rate an arm is run with, what every rate came to, and what that cost."""
    tried = ", ".join(
        f"{one.lr}: {one.mean:.2%}" + " (diverged)" * all(found is None for found in one.accuracies)
        for one in choice.tried
    )
    cost = f"{choice.cost.runs} runs, {choice.cost.steps:,} updates, {choice.cost.train_seconds:,.1f} s of training"
    remark = f"\n  {choice.remark}" if choice.remark else ""
    return f"{choice.arm}: optimizer.lr {choice.lr}, by validation accuracy ({tried}); {cost}{remark}"


def _same_arms(study: StudyConfig) -> list[list[str]]:
    """Arms that say the same, tuned or not."""
    alike: dict[str, list[str]] = {}
    for (arm, seed), config in study.configs(
        dict.fromkeys(study.arms, study.tune.rates[0]) if study.tune else None
    ).items():
        if seed == study.seeds[0]:
            alike.setdefault(config.model_dump_json(), []).append(arm)
    return [arms for arms in alike.values() if len(arms) > 1]


def _num_runs(study: StudyConfig) -> int:
    return len(study.arms) * len(study.seeds)


def _num_tuning(study: StudyConfig) -> int:
    return 0 if study.tune is None else len(study.arms) * len(study.tune.rates) * len(study.tune.seeds)
