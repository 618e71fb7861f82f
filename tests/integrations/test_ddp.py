"""Under DistributedDataParallel every rank decides alike, by the mean of the losses of all."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

from lrlab.schedulers import PhasesLR, SlopeLR

NUM_RANKS = 2
NUM_UPDATES = 120


def losses(rank: int) -> torch.Tensor:
    """Of one rank: one falls while the other rises, so that each alone would decide otherwise."""
    steps = torch.arange(NUM_UPDATES, dtype=torch.float64)
    noise = 0.05 * torch.randn(NUM_UPDATES, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
    trend = -0.02 * steps if rank == 0 else 0.02 * steps * (steps < 60) + 0.03 * steps * (steps >= 60)
    return 3.0 + trend + noise


def rule(optimizer: SGD) -> SlopeLR:
    return SlopeLR(optimizer, window=20, check_every=5)


def train(model: nn.Module, told: torch.Tensor) -> dict[str, object]:
    optimizer = SGD(model.parameters(), lr=0.1)
    scheduler = PhasesLR(rule(optimizer), warmup_steps=5)
    seen = []
    for loss in told:
        model(torch.ones(1, 2)).sum().backward()
        scheduler.observe(loss)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return {"rates": seen, "decisions": scheduler.take_decisions()}


def run_rank(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=NUM_RANKS)
    try:
        found = train(DistributedDataParallel(nn.Linear(2, 1)), losses(rank))
        torch.save(found, Path(folder) / f"rank{rank}.pt")
        dist.barrier()  # none takes its sockets away while another still listens
    finally:
        dist.destroy_process_group()
    # All is saved. A regular end aborts now and then in a thread of gloo's that is still there ("terminate called
    # without an active exception", as in pytorch/pytorch#190489).
    os._exit(0)


def test_every_rank_decides_alike_by_the_mean_of_all_losses(tmp_path: Path) -> None:
    mp.spawn(run_rank, args=(str(tmp_path),), nprocs=NUM_RANKS)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(NUM_RANKS)]
    alone = train(nn.Linear(2, 1), torch.stack([losses(rank) for rank in range(NUM_RANKS)]).mean(0))
    assert ranks[0] == ranks[1] == alone
    assert {decision["decision"] for decision in ranks[0]["decisions"]} == {"keep", "decay"}


def test_alone_the_ranks_would_decide_otherwise() -> None:
    one, other = (train(nn.Linear(2, 1), losses(rank)) for rank in range(NUM_RANKS))
    assert one["rates"] != other["rates"]
