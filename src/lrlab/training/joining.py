"""How the ranks of a training meet, as `torchrun` started them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import torch
import torch.distributed as dist

from lrlab.training.distributed import ALONE, RankError, Ranks, timeout_seconds
from lrlab.training.engine import EngineError

if TYPE_CHECKING:  # some builds of PyTorch have no such module
    from torch.distributed.distributed_c10d import Store

_PATIENCE = timedelta(minutes=30)
"""How long ranks wait for each other before the first update: one of them may have to download the data."""


@contextmanager
def joined(*, device: Literal["auto", "cpu", "cuda"], environment: Mapping[str, str] = os.environ) -> Iterator[Ranks]:
    """Join the ranks that `torchrun` started together, and leave them at the end; alone where it did not start this.

    On processors they talk through gloo; where there are GPUs each takes that of its local rank, and gradients go
    through NCCL. A rank waits for another one for 20 s (LRLAB_RANK_TIMEOUT, in seconds), and for half an hour
    while they start: one of them may have to download the data.

    Args:
        device: where to compute; auto takes a GPU where PyTorch sees one.
        environment: in which torchrun says who is who.
    Raises: RankError if they do not come together; EngineError if there are more of them than GPUs, or they cannot be.
    """
    size = int(environment.get("WORLD_SIZE", 1))
    if size == 1:
        yield ALONE
        return
    if not dist.is_available():
        raise EngineError("this build of PyTorch cannot run several ranks (torch.distributed). Install another one.")
    if missing := {"RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} - environment.keys():
        raise EngineError(
            f"WORLD_SIZE is {size}, but {', '.join(sorted(missing))} must be set too. "
            "Start the ranks with torchrun, or unset WORLD_SIZE for a single process."
        )
    rank, local_rank = int(environment["RANK"]), int(environment["LOCAL_RANK"])
    timeout, has_gpu = timedelta(seconds=timeout_seconds()), torch.cuda.is_available() and device != "cpu"
    if has_gpu:
        num_gpus = torch.cuda.device_count()
        if local_rank >= num_gpus:
            raise EngineError(
                f"rank {rank}: {environment['LOCAL_WORLD_SIZE']} ranks were started on a machine with {num_gpus} "
                f"GPU{'' if num_gpus == 1 else 's'}: each takes one. Start as many as it has, or use --device cpu."
            )
        torch.cuda.set_device(local_rank)
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    try:
        met, _, _ = next(rendezvous("env://"))
        store = PrefixStore(f"lrlab/{_agreed_start(met, rank, size)}", met)
        backend = "cpu:gloo,cuda:nccl" if has_gpu else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        patient = dist.new_group(backend="gloo", timeout=_PATIENCE)
    except (RuntimeError, TimeoutError) as error:
        raise RankError(f"rank {rank} of {size} could not connect to the others ({error}).") from error
    try:
        local_size = int(environment["LOCAL_WORLD_SIZE"])
        yield Ranks(rank, size, local_rank, local_size, store, patient)
    finally:
        if dist.is_initialized():  # else it lost the others
            dist.destroy_process_group()


def _agreed_start(store: Store, rank: int, size: int) -> int:
    """Wait until all ranks are there, and return which start of theirs this is, from 1.

    torchrun keeps its store from one start to the next, with the addresses of those who are no longer there, and does
    not count starts alike on all machines.

    Raises: TimeoutError.
    """
    start = store.add(f"lrlab/starts/{rank}", 1)
    store.set(f"lrlab/start/{rank}", str(start))
    keys = [f"lrlab/start/{other}" for other in range(size)]
    until = time.monotonic() + _PATIENCE.total_seconds()  # one may load PyTorch for a minute
    while time.monotonic() < until:
        starts = [int(store.get(key)) if store.check([key]) else 0 for key in keys]
        if min(starts) == max(starts):
            return max(starts)
        if max(starts) > start:  # this one ended before it could count in an earlier start
            start = store.add(f"lrlab/starts/{rank}", max(starts) - start)
            store.set(f"lrlab/start/{rank}", str(start))
        time.sleep(0.05)
    raise TimeoutError(f"ranks are missing after {_PATIENCE}")
