"""What a person reads of a comparison: tables, then a sentence for each pair."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from lrlab.cli.output import Output
from lrlab.compare import CompareError, Comparison, compare_runs, count_verdicts, notes, race_sentence, sentence
from lrlab.compare.listing import Listing, list_arms, list_differences, list_limits, list_profiles, list_times
from lrlab.runs import find_runs

MOST_SENTENCES: Final = 3
"""Pairs of which a study says each, when it ends; of more it says those that differ."""


def show_comparison(output: Output, comparison: Comparison) -> None:
    """Print what was found, and what it does not show."""
    tasks = list(dict.fromkeys(arm.task for arm in comparison.arms))
    for task in tasks:
        if len(tasks) > 1:
            output.say(f"\n{task}")
        for listed in (list_arms, list_differences, list_limits, list_times):
            _show(output, listed(comparison, task))
    _show(output, list_profiles(comparison))
    output.say("")
    sentences = [sentence(found, comparison) for found in comparison.differences]
    for text in [*sentences, *(race_sentence(found, comparison) for found in comparison.races), *notes(comparison)]:
        output.say_wrapped(f"{text}\n")


def show_verdict(output: Output, folder: Path) -> None:
    """Print what a study that is over shows, or why it cannot be said; nothing of a single arm."""
    runs = find_runs(folder)
    if len({run.arm for run in runs}) < 2:
        return
    try:
        comparison = compare_runs(runs)
    except CompareError as error:
        output.say(f"the arms are not compared: {error}")
        return
    _show(output, list_arms(comparison, comparison.arms[0].task))
    output.say("")
    told = comparison.differences
    if len(told) > MOST_SENTENCES:
        output.say_wrapped(count_verdicts(comparison))
        told = [found for found in told if found.verdict == "different"]
    for found in told[: 2 * MOST_SENTENCES]:
        output.say_wrapped(sentence(found, comparison))
    output.say(f"full comparison: lrlab compare {shlex.quote(str(folder))}")


def _show(output: Output, listing: Listing | None) -> None:
    if listing is not None:
        output.say("")
        output.table(*listing)
