"""The runs of a study, what is said of one while it goes, and how one stands on disk."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from lrlab.config import ConfigError, RunConfig, differences, merge, parse_config, to_table
from lrlab.config.parse import without_harmless
from lrlab.runs import RunError, read_info, read_run


@dataclass(frozen=True)
class Member:
    """One run of a study."""

    arm: str
    seed: int
    config: RunConfig
    directory: Path
    rate: float | None = None
    """The rate that is tried, for a run by which the arm's rate is found."""

    @property
    def name(self) -> str:
        """Arm, rate if one is tried, and seed."""
        return self.arm + ("" if self.rate is None else f" at {self.rate}") + f" seed {self.seed}"


@dataclass(frozen=True)
class Progress:
    """How far a member is; said at its first update and then a few times a second."""

    step: int
    num_steps: int
    loss: float
    lr: float
    """The highest of its layer groups."""
    images_per_second: float | None
    """Since the last time; None at the first."""


@dataclass(frozen=True)
class Died:
    """The process at work on a member died; another one goes on with it from its newest checkpoint."""

    how: str


@dataclass(frozen=True)
class Waiting:
    """Nothing to say: the member is built, or nothing has happened for a second. A time to stop, if it is to be."""


Outcome = Literal["complete", "diverged", "failed", "locked"]


@dataclass(frozen=True)
class Ended:
    """A member of a study is over, in this call or in an earlier one."""

    outcome: Outcome
    message: str = ""
    """What went wrong, for any outcome but complete."""
    was_there: bool = False
    """Whether it had ended before this call."""
    accuracy: float | None = None
    """On the split that was evaluated, at the end, for a complete one."""


StudyEvent = Progress | Died | Ended | Waiting
"""What a study yields for one of its members."""

MemberEvents = Generator[tuple[Member, StudyEvent], None, None]


class Executor(Protocol):
    """Whatever runs members: this process, or others."""

    def check(self, members: Sequence[Member], *, num_to_come: int) -> MemberEvents:
        """Build members without running them, so that what cannot be built is known before hours of work.

        Nothing is to be said of one that can be, but it is a time to stop.

        Args:
            members: one of each arm.
            num_to_come: runs that follow, for which it may get ready.
        Raises: ConfigError, DataError, EngineError.
        """

    def run(self, members: Sequence[Member]) -> MemberEvents:
        """Run members, in this order as far as it can, and yield what happens; the last of each is an `Ended`."""

    def close(self) -> None:
        """Save what is under way, and end."""


def ended_before(member: Member) -> Ended | None:
    """Return how a member ended if it did: complete and diverged are results, and no other end is one."""
    try:
        status = read_info(member.directory)["status"]
    except RunError:  # not begun, or another process is just making it again
        return None
    if status == "complete":
        return Ended("complete", was_there=True, accuracy=final_accuracy(member))
    return Ended("diverged", "in an earlier call", was_there=True) if status == "diverged" else None


def final_accuracy(member: Member) -> float:
    """Return the accuracy of a complete member, on the split that it was evaluated on."""
    run = read_run(member.directory)
    return float(run.result[f"{run.evaluated_split}_accuracy"])


def check_same_config(member: Member) -> None:
    """Check that a run which is there was made with the member's configuration, but for keys that change no result.

    Raises: RunError.
    """
    try:
        made = read_run(member.directory)
    except (RunError, ConfigError):  # not begun, or another process is just making it again
        return
    # a key that the run does not have came after it, and what came after is off by default
    was = merge(to_table(parse_config({})), dict(made.config))
    changed = differences(without_harmless(was), without_harmless(to_table(member.config)))
    if made.lengthened:
        raise RunError(
            f"{member.directory} was made longer than its rate was planned for ({made.lengthened}), so it is no run of "
            "this study. Move it elsewhere, or delete it."
        )
    if changed:
        raise RunError(
            f"{member.directory} was made with another configuration ({'; '.join(changed)}). "
            "Give the study another name, or delete that run."
        )
