"""What a study and its workers say to each other, beside the events of members."""

from __future__ import annotations

from dataclasses import dataclass

from lrlab.studies.members import Member, StudyEvent


@dataclass(frozen=True)
class Job:
    """Something to do for a worker; None in its place asks it to save and to end."""

    member: Member
    only_checks: bool


@dataclass(frozen=True)
class Begun:
    """A job that may have had to wait for room has found it."""


@dataclass(frozen=True)
class Checked:
    """A member was built, or cannot be."""

    error: Exception | None


@dataclass(frozen=True)
class Warned:
    """Something that a worker wants a person to know."""

    text: str


Message = StudyEvent | Begun | Checked | Warned
"""What a worker says; an `Ended` or a `Checked` is its last word on a job."""
