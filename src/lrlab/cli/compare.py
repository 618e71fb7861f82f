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
"""Pairs of which a study says each, when it ends."""


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
    """Print what a study that is over shows; nothing where there is nothing to compare."""
    try:
        comparison = compare_runs(find_runs(folder))
    except CompareError:
        return
    _show(output, list_arms(comparison, comparison.arms[0].task))
    output.say("")
    several = len(comparison.differences) > MOST_SENTENCES
    sentences = [sentence(found, comparison) for found in comparison.differences]
    for text in [count_verdicts(comparison)] if several else sentences:
        output.say_wrapped(text)
    output.say(f"all figures of it: lrlab compare {shlex.quote(str(folder))}")


def _show(output: Output, listing: Listing | None) -> None:
    if listing is not None:
        output.say("")
        output.table(*listing)
