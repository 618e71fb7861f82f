"""What a careful person would write of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from lrlab.compare.comparison import Comparison, PairRace
from lrlab.compare.differences import Difference, LeftOut
from lrlab.compare.measures import Measure
from lrlab.compare.statistics import LEVEL, side_of_level, sign_flip_floor
from lrlab.compare.tasks import is_of_the_schedule
from lrlab.runs.finding import by_arm

_VERDICTS = {
    "different": "with a difference",
    "no evidence": "without evidence of a difference",
    "identical": "with the same value in every seed",
    "too few": "with a single seed",
    "none": "of which no seed is complete in both",
}
FEW_SEEDS = 5
"""Below it nothing can be said of how the differences are distributed."""


def sentence(found: Difference, comparison: Comparison) -> str:
    """Say what a pair shows, what it does not, and what is not in it."""
    parts = [_finding(found, comparison), *_doubts(found, comparison.num_tested), *_context(found)]
    several = len({difference.task for difference in comparison.differences}) > 1
    return f"{found.task}: " * several + " ".join(parts)


def count_verdicts(comparison: Comparison) -> str:
    """Say how many of several pairs differ."""
    verdicts = [found.verdict if found.num_seeds else "none" for found in comparison.differences]
    parts = [f"{verdicts.count(verdict)} {words}" for verdict, words in _VERDICTS.items() if verdict in verdicts]
    return f"Of {len(verdicts)} pairs: {', '.join(parts)}."


def _finding(found: Difference, comparison: Comparison) -> str:
    measure, arm, reference = comparison.measure, found.arm, found.reference
    if found.mean is None:
        reasons = {out.reason for out in found.left_out}
        has = f" with a {measure.name}" if f"no {measure.name}" in reasons else ""
        has = f" with a finite {measure.name}" if f"{measure.name} not finite" in reasons else has
        return f"{arm} and {reference} cannot be compared: no seed has a complete run of both{has}."
    size = f"{measure.difference_text(found.mean)}{measure.unit}"
    if found.num_seeds == 1:
        return (
            f"One run of each proves nothing: {arm} and {reference} differ by {size} of {measure.words} with seed "
            f"{found.seeds[0]}, as two runs of the same arm may."
        )
    if found.verdict == "identical":
        return f"{arm} and {reference} have the same {measure.words} in all {found.num_seeds} seeds."
    evidence = _evidence(found, comparison)
    if found.verdict == "different":
        if measure.better is None:
            larger = "larger" if found.mean > 0 else "smaller"
            return f"{arm} has a {larger} {measure.words} than {reference}: {size} ({evidence})."
        better = (found.mean > 0) == (measure.better == "more")
        return f"{arm} is {'better' if better else 'worse'} than {reference}: {measure.words} {size} ({evidence})."
    return (
        f"No evidence of a difference between {arm} and {reference}: {measure.words} {size} with {arm} ({evidence})."
        f"{_what_was_possible(found, measure)}"
    )


def _evidence(found: Difference, comparison: Comparison) -> str:
    parts = []
    if found.interval is not None:
        low, high = map(comparison.measure.difference_text, found.interval)
        parts.append(f"95 % interval {low} to {high}")
    parts.append(f"n = {found.num_seeds} paired seeds")
    parts.append(p_text(found.p))
    if comparison.num_tested > 1:
        parts.append(f"{p_text(found.p_holm)} adjusted for {comparison.num_tested} pairs")
    return ", ".join(parts)


def p_text(p: float | None) -> str:
    """Write a p value as in a sentence."""
    if p is None:
        return "no p"
    if p < 0.0001:
        return "p < 0.0001"
    text = f"{p:.2g}" if p < 0.01 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    if text == f"{LEVEL:.3f}":  # on which side of the level it lies must be seen
        text = f"{p:.4f}"
    return f"p {side_of_level(p)}" if text == f"{LEVEL:.4f}" else f"p = {text}"


def _what_was_possible(found: Difference, measure: Measure) -> str:
    if found.detectable is None:
        return " All differences are alike, so nothing is known of their spread."
    if not measure.can_differ_by(found.detectable):
        return f" With {found.num_seeds} seeds that scatter so widely, no possible difference could have been found."
    shown = f"{measure.size_text(found.detectable)}{measure.unit}"
    needed = f"{found.seeds_needed:,}" if found.seeds_needed else "more than 10,000"
    return (
        f" Four in five studies of {found.num_seeds} seeds would find one of {shown}; one as small as this needs "
        f"{needed} seeds."
    )


def _doubts(found: Difference, num_tested: int) -> list[str]:
    """Say where another way to look at the same numbers would say something else."""
    doubts = []
    if found.verdict == "no evidence" and found.p is not None and found.p <= LEVEL:
        doubts.append(
            f"By itself this pair would count as different; among {num_tested} pairs chance alone produces such a "
            "one in more than 5 % of studies."
        )
    if found.verdict == "different" and found.num_seeds < FEW_SEEDS:
        doubts.append(
            "That rests on the assumption that the differences are normally distributed, which "
            f"{found.num_seeds} seeds cannot show."
        )
    flip = found.p_sign_flip_holm
    finds_one = flip is not None and flip <= LEVEL
    is_one_way = found.num_above in (0, found.num_seeds) and all(found.differences)
    if found.verdict == "no evidence" and is_one_way and not finds_one:
        doubts.append(f"All {found.num_seeds} seeds point the same way, which is not enough by itself.")
    if flip is None or found.interval is None:
        return doubts
    if found.verdict == "different" and flip > LEVEL >= num_tested * sign_flip_floor(found.num_seeds):
        doubts.append(
            f"The sign-flip test, which assumes no normal distribution, does not bear it out ({p_text(flip)})."
        )
    if found.verdict == "no evidence" and flip <= LEVEL:
        doubts.append(
            f"The sign-flip test, which assumes no normal distribution, does find one ({p_text(flip)}): look at the "
            "single seeds."
        )
    return doubts


def _context(found: Difference) -> list[str]:
    """Say which runs are not in the difference, and in what the arms differ besides their schedule."""
    context = []
    diverged = [out for out in found.left_out if out.reason == "diverged"]
    others = [out for out in found.left_out if out.reason != "diverged"]
    if diverged:
        context.append(f"Diverged, and therefore in no difference: {_named(diverged)}.")
        if found.seeds:
            context.append("The difference is one between runs that came to their end.")
    if others:
        reasons = {out.reason: [one for one in others if one.reason == out.reason] for out in others}
        listed = "; ".join(f"{_named(runs)} ({reason})" for reason, runs in reasons.items())
        context.append(f"Left out: {listed}.")
    context += _lengths(found)
    besides = [name for name in found.differs_in if not is_of_the_schedule(name)]
    if besides:
        context.append(f"The arms differ in more than the schedule: {', '.join(besides)}.")
    return context


def _lengths(found: Difference) -> list[str]:
    """Say where the two runs of a seed ended at different updates."""
    ends = found.arm_updates, found.reference_updates
    if not all(ends) or list(ends[0]) == list(ends[1]):
        return []
    ours, theirs = (f"{min(of):,}" + f" to {max(of):,}" * (min(of) < max(of)) for of in ends)
    if ours != theirs:
        return [f"Runs of {found.arm} ended at update {ours}, those of {found.reference} at {theirs}."]
    seeds = [str(seed) for seed, *pair in zip(found.seeds, *ends, strict=True) if pair[0] != pair[1]]
    return [f"In seed{'s' * (len(seeds) > 1)} {', '.join(seeds)} the two runs ended at different updates."]


def _named(runs: Sequence[LeftOut]) -> str:
    return by_arm((run.arm, run.seed) for run in runs)


def race_sentence(found: PairRace, comparison: Comparison) -> str:
    """Say which of two arms got to the target first."""
    race, num_races = found.race, sum(pair.race.p is not None for pair in comparison.races)
    counts = f"{found.arm} first in {race.first}, {found.reference} in {race.second}"
    counts += f", neither in {race.neither}" * bool(race.neither)
    counts += f", not known in {race.unknown}" * bool(race.unknown)
    several = len({pair.task for pair in comparison.races}) > 1
    task = f"{found.task}: " * several
    if race.p is None or found.p_holm is None:
        return f"{task}No seed shows whether {found.arm} or {found.reference} is sooner at the target ({counts})."
    p = f"exact sign test, {p_text(found.p_holm)}" + f" adjusted for {num_races} pairs" * (num_races > 1)
    if found.p_holm <= LEVEL:
        sooner, later = (found.arm, found.reference)[:: 1 if race.first > race.second else -1]
        return f"{task}{sooner} is sooner at the target than {later}: {counts} ({p})."
    return f"{task}No evidence that {found.arm} or {found.reference} is sooner at the target: {counts} ({p})."
