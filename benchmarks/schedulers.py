"""What a rule costs at every update, how fast it replays, and how often and how soon it fires.

    python benchmarks/schedulers.py

Cost: `observe` and `step` of each rule in a loop whose optimizer steps one number, less the same loop without a
scheduler just before it, in turns of a thousand updates, of which a round takes the median; torch's LambdaLR stands
beside them. Replay: a million recorded losses. Calibration: simulated losses, flat ones and ones that fall to a
plateau, as `lrlab calibrate` plays them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from lrlab.schedulers import (
    ArticleLR,
    GreedyLR,
    PhasesLR,
    PlateauLR,
    RuleLR,
    SignalScheduler,
    SlopeLR,
    SnrLR,
    StationarityLR,
)
from lrlab.schedulers.simulate import Noise, RuleCalibration, calibrate
from lrlab.schedules import constant
from measuring import digits, environment, interleave, parser, publish, table, with_range

TITLE = "Rules that listen: cost, replay, calibration"
NOTHING = "no scheduler"
NUM_TURNS = 20
UPDATES_A_TURN = 1_000
"""As many as most rules listen to before they decide, so that the median turn holds a decision."""
NUM_LOSSES = 1_000_000

LOSS_RULES: dict[str, Callable[[Optimizer], RuleLR]] = {
    "article": ArticleLR,
    "slope": SlopeLR,
    "slope, min_progress 0.02": lambda optimizer: SlopeLR(optimizer, min_progress=0.02),
    "slope, dlib's test": lambda optimizer: SlopeLR(optimizer, test="dlib"),
    "greedy": GreedyLR,
    "plateau": PlateauLR,
}
RULES: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "torch's LambdaLR": lambda optimizer: LambdaLR(optimizer, constant()),
    **LOSS_RULES,
    "slope in phases": lambda optimizer: PhasesLR(
        SlopeLR(optimizer), warmup_steps=100, cooldown_steps=100, total_steps=NUM_TURNS * UPDATES_A_TURN
    ),
    "snr": SnrLR,
    "stationarity": StationarityLR,
}


def stepping(name: str) -> tuple[Optimizer, LRScheduler | None]:
    """What a loop that steps one number is made of."""
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = Adam([parameter], 1e-3)
    parameter.grad = torch.ones(1)
    return optimizer, RULES[name](optimizer) if name != NOTHING else None


def measure_updates(optimizer: Optimizer, scheduler: LRScheduler | None, *, num_updates: int) -> float:
    """Microseconds an update."""
    loss = torch.rand(())
    started = time.perf_counter()
    if isinstance(scheduler, SignalScheduler):
        for _ in range(num_updates):
            scheduler.observe(loss)
            optimizer.step()
            scheduler.step()
    elif scheduler is not None:
        for _ in range(num_updates):
            optimizer.step()
            scheduler.step()
    else:
        for _ in range(num_updates):
            optimizer.step()
    return 1e6 * (time.perf_counter() - started) / num_updates


def measure_costs(*, num_turns: int, num_updates: int) -> tuple[dict[str, float], float]:
    """Microseconds an update that each rule adds, and those of the loop alone: medians over turns."""
    alone = stepping(NOTHING)
    loops = {name: stepping(name) for name in RULES}
    bases: list[float] = []
    costs: dict[str, list[float]] = {name: [] for name in RULES}
    for _ in range(num_turns):
        for name, loop in loops.items():
            bases.append(measure_updates(*alone, num_updates=num_updates))
            costs[name].append(measure_updates(*loop, num_updates=num_updates) - bases[-1])
    return {name: statistics.median(each) for name, each in costs.items()}, statistics.median(bases)


def measure_replay(name: str, *, losses: torch.Tensor) -> float:
    """Seconds for recorded losses."""
    rule = LOSS_RULES[name](Adam([nn.Parameter(torch.zeros(1))], 1e-3))
    started = time.perf_counter()
    rule.replay(losses)
    return time.perf_counter() - started


def calibration_row(name: str, noise: Noise, found: RuleCalibration) -> list[str]:
    """One row of the table: a rule and a kind of noise."""
    delays = "never" if found.delays is None else " / ".join(digits(delay) for delay in found.delays)
    shares = [f"{100 * share:.1f}" for share in (found.flat_share, found.early_share, found.never_share)]
    return [name, f"{noise.correlation:g}", f"{found.window:,}", *shares, delays]


def main() -> None:
    options = parser(__doc__).parse_args()
    facts = environment()
    torch.set_num_threads(1)
    num_turns, num_losses = (2, 20_000) if options.quick else (NUM_TURNS, NUM_LOSSES)
    repeats = 1 if options.quick else options.repeats
    rounds = [measure_costs(num_turns=num_turns, num_updates=UPDATES_A_TURN) for _ in range(repeats)]
    costs = {name: [found[name] for found, _ in rounds] for name in RULES}
    bases = [base for _, base in rounds]
    losses = torch.rand(num_losses, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    replays = interleave(list(LOSS_RULES), lambda name: measure_replay(name, losses=losses), repeats=repeats)
    num_traces = 10 if options.quick else 1000
    calibrations = [
        (name, noise, calibrate(make, noise=noise, num_traces=num_traces))
        for name, make in LOSS_RULES.items()
        for noise in (Noise(), Noise(correlation=0.5))
    ]
    text = "\n\n".join(
        [
            table(
                ["rule", "us an update", f"s for {num_losses:,} losses"],
                [
                    [name, with_range(costs[name]), with_range(replays[name]) if name in replays else ""]
                    for name in RULES
                ],
            ),
            f"Median of {repeats} rounds, in brackets the least and the largest; the loop alone takes "
            f"{with_range(bases)} us an update. One thread.",
            table(
                ["rule", "correlation", "window", "flat, % of windows", "early, %", "never, %", "delay, windows"],
                [calibration_row(name, noise, found) for name, noise, found in calibrations],
            ),
            f"{num_traces:,} simulated losses of each kind, noise of std 0.3 on a mean of 1, correlated so from one "
            "update to the next. Flat: share of the windows of a flat loss in which the rule decays. Early: share of "
            "the falling losses on which it decays before the plateau. Delay: quartiles of the windows from the "
            "plateau's beginning to the first decay; never: share on which none came within 20 windows. A window is "
            "what the rule needs before it can decide.",
        ]
    )
    print(text)
    if not options.quick:
        document = {
            "microseconds": {NOTHING: bases, **costs},
            "replay_seconds": replays,
            "calibrations": [
                {"rule": name, "noise": asdict(noise), **asdict(found)} for name, noise, found in calibrations
            ],
        }
        publish("schedulers", title=TITLE, page=text, document=document, facts=facts)


if __name__ == "__main__":
    main()
