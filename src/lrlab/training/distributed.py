"""One training in several processes, as `torchrun` starts them: who they are, and what they tell each other."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lrlab.training.engine import EngineError

if TYPE_CHECKING:  # some builds of PyTorch have no such module
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

_SECONDS_TO_REPORT = 3.0
"""How long a rank that lost another one waits for the word of those that are left."""


class RankError(RuntimeError):
    """The ranks of a training cannot go on together: one ended or hangs, or they do not compute the same."""

    exit_code: ClassVar[int] = 8


class ElsewhereError(RuntimeError):
    """Another rank cannot go on, and has said why; there is nothing to add here."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


@dataclass(frozen=True)
class Ranks:
    """The processes that make one training together, and which of them this is; alone, what it says costs nothing.

    After every update all of them hold the same bits: weights, state of the optimizer, of the scheduler and of the
    probes. So one of them may write for all, and each decides what all decide.
    """

    rank: int = 0
    """This process, from 0."""
    size: int = 1
    """How many there are."""
    local_rank: int = 0
    """This process among those of its machine, from 0."""
    local_size: int = 1
    """How many there are on this machine."""
    store: Store | None = None
    """Keys and values that all see, which outlive a rank."""
    patient: dist.ProcessGroup | None = None
    """All ranks, for what may take long."""

    def __deepcopy__(self, memo: object) -> Ranks:
        """A copied model, as an average is, belongs to the same ranks."""
        return self

    def total(self, numbers: Tensor) -> Tensor:
        """Add numbers up over the ranks, in place; every rank is given the same bits, and nothing waits for a GPU."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def highest(self, number: int) -> int:
        """Return the highest of the ranks' numbers."""
        if self.size == 1:
            return number
        numbers = torch.tensor([number])  # on the processor: what is decided by it must not wait for a GPU
        dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        return int(numbers)

    def first(self, value: T) -> T:
        """Return what rank 0 has: a plain value, or bytes."""
        if self.size == 1:
            return value
        values = [value]
        with self.watched():
            dist.broadcast_object_list(values, src=0, group=self.patient)
        return values[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have something done by every rank or by none: where one fails, none goes on.

        Raises: on a rank that failed, its own error; on the others ElsewhereError with the same exit code.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        codes = self._all(None if failure is None else getattr(failure, "exit_code", 1))
        if failure is not None:
            raise failure
        if failed := [code for code in codes if code is not None]:
            raise ElsewhereError(failed[0])

    @contextmanager
    def first_here(self) -> Iterator[None]:
        """Let one process of each machine go first, since it may have to download what the others then find."""
        if self.local_rank:
            self.meet()
        try:
            yield
        finally:
            if not self.local_rank:
                self.meet()

    def meet(self) -> None:
        """Wait until all ranks are here.

        Raises: RankError if one will not come.
        """
        if self.size > 1:
            with self.watched():
                dist.barrier(group=self.patient)

    def check_same_number(self, what: str, number: int) -> None:
        """Check that all ranks have the same number, as long as they wait for each other at an update.

        Raises: RankError, on all ranks.
        """
        if self.highest(number) != -self.highest(-number):
            raise RankError(
                f"the {self.size} ranks have computed different {what}. Start all of them with the same versions of "
                "lrlab and torch, on processors of one kind."
            )

    def check_same(self, what: str, value: object) -> None:
        """Check that all ranks have the same, before the first update.

        Args:
            what: it is.
            value: as this rank has it.
        Raises: RankError, on all ranks.
        """
        values = self._all(value)
        if others := [str(rank) for rank, other in enumerate(values) if other != values[0]]:
            raise RankError(
                f"rank {', '.join(others)} of {self.size} differs from rank 0 in {what}. Start all ranks with the "
                "same command and the same versions of lrlab and torch, on processors of one kind."
            )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Name the rank that is lost, where one ended or does not answer while this one waits for it.

        Raises: RankError.
        """
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not _is_of_a_lost_rank(error):
                raise
            raise RankError(self._describe_loss()) from error

    def _all(self, value: object) -> list[Any]:
        """What every rank has, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self.watched():
            dist.all_gather_object(values, value, group=self.patient)
        return values

    def _describe_loss(self) -> str:
        """Say which ranks have no longer anything to say; those that wait for this one are let go by the way."""
        assert self.store is not None, "there is one where there are several ranks"
        silent = set(range(self.size)) - {self.rank}
        with suppress(RuntimeError):  # the store may have gone with a machine
            self.store.set(_left(self.rank), "")
            with suppress(RuntimeError):  # closes the connections, by which the others hear of it
                if dist.get_backend() == "gloo":
                    dist.destroy_process_group()
                else:  # which would wait for what a GPU will never end
                    dist.distributed_c10d._abort_process_group()
            until = time.monotonic() + _SECONDS_TO_REPORT
            while silent and time.monotonic() < until:
                silent = {rank for rank in silent if not self.store.check([_left(rank)])}
                time.sleep(0.1)
        lost = f"rank {', '.join(map(str, sorted(silent)))}" if silent else "another rank"
        return (
            f"{lost} of {self.size} ended, or did not answer for {timeout_seconds():g} s; rank {self.rank} ends too. "
            "The last checkpoint is kept: lrlab resume continues from it, and torchrun --max-restarts does so by "
            "itself."
        )


ALONE = Ranks()


def timeout_seconds() -> float:
    """Seconds that a rank waits for another: with torchrun's 30 until it kills what hangs, all end within a minute."""
    said = os.environ.get("LRLAB_RANK_TIMEOUT", "20")
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < inf:
        raise EngineError(f"LRLAB_RANK_TIMEOUT must be a number of seconds above 0, got {said!r}.")
    return seconds


def _left(rank: int) -> str:
    return f"left/{rank}"


def _is_of_a_lost_rank(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error)
