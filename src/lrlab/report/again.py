"""How a run is made again, as its page says it, and what one command alone does not make of it."""

from __future__ import annotations

from lrlab.runs import Run


def launcher(num_ranks: int) -> str:
    """Return what stands before the command of so many processes that make a run together."""
    return f"torchrun --nproc-per-node {num_ranks} -m -- " if num_ranks > 1 else ""


def again(run: Run) -> str:
    """Return the command that makes a run from its config.toml, by as many processes as began it."""
    return f"{launcher(run.num_ranks_in_turn[0])}lrlab train --config config.toml --run NEW"


def again_from(run: Run, where: str) -> str:
    """Say what that command makes.

    Args:
        run: that is to be made again.
        where: its config.toml is, as a clause.
    """
    limits = []
    if run.lengthened:
        limits.append(
            f"It was made longer than its rate was planned for ({run.lengthened}), and config.toml, which {where}, "
            "holds the last length alone. The same takes a run of the first length and lrlab resume; this makes one "
            "that was planned for the last"
        )
    if len(run.num_ranks_in_turn) > 1:
        limits.append(
            f"It was made by {processes_in_turn(run)}. The same takes lrlab resume by each number of them in turn; "
            f"this, from config.toml, which {where}, is made by the first number alone"
        )
    return ". ".join(limits or [f"The same from config.toml, which {where} and holds every setting"]) + ":"


def processes_in_turn(run: Run) -> str:
    """Say by how many processes a run was made: '2 processes', '2 then 1 processes'."""
    numbers = run.num_ranks_in_turn
    return f"{' then '.join(map(str, numbers))} process{'es' * (numbers != (1,))}"
