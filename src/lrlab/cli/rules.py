"""What a person reads of a range test, of a replay and of a calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lrlab.experiments import RangeTest, RuleCalibration
from lrlab.integrations.recorded import Recorded
from lrlab.report.members import has_moved

MOST_LINES: Final = 40
_COMMON: Final = frozenset({"step", "rule", "decision", "lr_before", "lr_after"})


def describe_range_test(found: RangeTest) -> str:
    """Say which rate the sweeps suggest, and how far they are apart."""
    rates, num_sweeps = found.suggestions, len(found.sweeps)
    if found.suggestion is None:
        return "no rate to suggest: none of the sweeps shows one"
    text = f"learning rate {found.suggestion:.2e}"
    if num_sweeps > 1:
        seeds = (
            f"{num_sweeps} seeds" if len(rates) == num_sweeps else f"the {len(rates)} of {num_sweeps} seeds with one"
        )
        text += f": median of {seeds}, least {rates[0]:.2e}, largest {rates[-1]:.2e}"
    return f"{text}\ntrain with it: --lr {found.suggestion:.2g}"


def describe_replay(recorded: Recorded, decisions: Sequence[Mapping[str, Any]]) -> str:
    """Say when the rate would have moved, by what evidence, and how often it was looked at."""
    moved = [decision for decision in decisions if has_moved(decision)]
    lines = [f"{recorded.name}: {len(recorded.losses):,} losses, updates {recorded.steps[0]:,.0f} to "
             f"{recorded.steps[-1]:,.0f}; {len(decisions):,} looks, the rate starts at "
             f"{max(decisions[0]['lr_before']):g} and moves {len(moved)} times"]  # fmt: skip
    spacing = (recorded.steps[-1] - recorded.steps[0]) / max(1, len(recorded.steps) - 1)
    if spacing > 1.01:
        lines.append(f"one loss was recorded every {spacing:.3g} updates: lengths given in updates count losses here")
    for decision in moved[:MOST_LINES]:
        at = f"{recorded.steps[decision['step'] - 1]:>12,.0f}"
        rates = f"{max(decision['lr_before']):.3g} -> {max(decision['lr_after']):.3g}"
        lines.append(f"{at}  {decision['decision']:<6} {rates:<20} {_evidence(decision)}")
    if len(moved) > MOST_LINES:
        lines.append(f"... and {len(moved) - MOST_LINES:,} more; all are in --json")
    if not moved:
        lines.append(f"the last look: {_evidence(decisions[-1])}")
    return "\n".join(lines)


def describe_calibration(found: RuleCalibration) -> str:
    """Say how often a rule fires on a flat loss, and how soon on a plateau."""
    lines = [
        f"{found.num_traces:,} losses of each kind; a window is {found.window:,} updates, as many as it needs",
        f"flat for {found.flat_windows} windows:  decays in {found.flat_share:.1%} of the windows",
        f"a fall, then {found.plateau_windows} windows of plateau:",
        f"  before the plateau        {found.early_share:.1%} of the losses",
    ]
    if found.delays:
        low, median, high = found.delays
        lines.append(f"  after it began            {median:.2f} windows (quartiles {low:.2f} to {high:.2f})")
    return "\n".join([*lines, f"  never                     {found.never_share:.1%} of those that were not early"])


def _evidence(decision: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value:.4g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in decision.items()
        if name not in _COMMON and value is not None
    )
