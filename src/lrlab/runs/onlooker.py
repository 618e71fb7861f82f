"""In place of a writer, where another process writes the same run."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

from lrlab.runs.checkpoints import Checkpoint
from lrlab.runs.storage import StorageError


class Onlooker:
    """Takes what a `RunWriter` takes, and writes nothing: one process writes for all that make a run together.

    But for evaluations and checkpoints, which it would be a waste to prepare.
    """

    checkpoint: Checkpoint | None = None
    before: Mapping[str, Any] = MappingProxyType({})
    checkpoint_problem: StorageError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return

    @property
    def info(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def describe(self, **facts: Any) -> None:
        """Leave it to the writer, as all that follows."""

    def write_rows(self, rows: Mapping[str, Any]) -> None:
        """Drop rows."""

    def write_decisions(self, decisions: list[dict[str, Any]]) -> None:
        """Drop decisions."""

    def wait(self) -> None:
        """There is nothing to wait for."""

    def finish(self, status: str, result: Mapping[str, Any]) -> None:
        """Leave the run's end to the writer."""
