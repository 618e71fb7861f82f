"""What a person reads of a comparison: tables, then a sentence for each pair."""

from __future__ import annotations

from lrlab.cli.output import Output
from lrlab.compare import Comparison, notes, race_sentence, sentence
from lrlab.compare.listing import Listing, list_arms, list_differences, list_limits, list_profiles, list_times


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


def _show(output: Output, listing: Listing | None) -> None:
    if listing is not None:
        output.say("")
        output.table(*listing)
