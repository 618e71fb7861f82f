"""What a schedule decided, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lrlab.report.members import MOST_DECISIONS, Member
from lrlab.report.tables import NOTHING, Table, count

_KNOWN_OF_A_DECISION: Final = frozenset({"step", "rule", "threshold", "decision", "lr_before", "lr_after"})


def decisions_table(member: Member) -> Table:
    """List what the schedule decided: of very many decisions, the first hundred."""
    header = ("step", "measured", "threshold", "decision", "rate before", "rate after")
    rows = [
        (
            f"{decision['step']:,}",
            measured_text(decision),
            _number(decision.get("threshold")),
            str(decision["decision"]),
            _rates(decision["lr_before"]),
            _rates(decision["lr_after"]),
        )
        for decision in member.decisions
    ]
    return Table(header, rows)


def decisions_summary(member: Member) -> str:
    """Say in a sentence what the schedule of a run decided."""
    moved, at_floor = member.decays.moved, member.decays.at_floor
    sentence = f"{count(member.num_decisions, 'decision')}, {count(len(moved), 'decay')}"
    if moved:
        listed = ", ".join(f"{step:,}" for step in moved[:20]) + (", ..." if len(moved) > 20 else "")
        sentence += f" (at update {listed})"
    if at_floor:
        sentence += f", {count(len(at_floor), 'decay')} at the floor, where the rate stays as it is"
    if member.num_decisions > MOST_DECISIONS:
        sentence += f". The first {MOST_DECISIONS} are listed; all are in decisions.jsonl"
    return f"{sentence}."


def measured_text(decision: Mapping[str, Any]) -> str:
    """Write what a schedule measured before it decided."""
    measured = {name: value for name, value in decision.items() if name not in _KNOWN_OF_A_DECISION}
    return ", ".join(f"{name} = {_number(value)}" for name, value in measured.items())


def evidence_text(decision: Mapping[str, Any]) -> str:
    """Write what a schedule decided, and on what evidence, in one line."""
    rates = f"rate {_rates(decision['lr_before'])} to {_rates(decision['lr_after'])}"
    threshold = decision.get("threshold")
    parts = [measured_text(decision), "" if threshold is None else f"threshold {_number(threshold)}", rates]
    return "; ".join(part for part in parts if part)


def _number(value: Any) -> str:
    if value is None:
        return NOTHING
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rates(rates: Sequence[float]) -> str:
    """The rates of all groups, once where they are the same."""
    return ", ".join(f"{rate:.4g}" for rate in dict.fromkeys(rates))
