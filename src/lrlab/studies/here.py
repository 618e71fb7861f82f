"""Runs members in this process, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from lrlab.studies.members import Member, MemberEvents, Waiting
from lrlab.studies.work import DataSets, check_member, run_member


class Here:
    """An executor that is this process."""

    def __init__(self) -> None:
        self._data_sets = DataSets()

    def check(self, members: Sequence[Member], *, num_to_come: int) -> MemberEvents:
        """Build members without running them."""
        for member in members:
            check_member(member, self._data_sets)
            yield member, Waiting()

    def run(self, members: Sequence[Member]) -> MemberEvents:
        """Run members in this order."""
        for member in members:
            with closing(run_member(member, self._data_sets)) as events:
                for event in events:
                    yield member, event

    def close(self) -> None:
        """Nothing goes on behind a generator's back here."""
