"""What a rule costs at every update, how fast it replays, and how often and how soon it fires.

    python benchmarks/schedulers.py

Cost: `observe` and `step` of each rule in a loop whose optimizer steps one number, less the same loop without a
scheduler, in turns; torch's LambdaLR stands beside them. Replay: a million recorded losses. Calibration: simulated
losses, flat ones and ones that fall to a plateau, as `lrlab calibrate` plays them.
"""

from __future__ import annotations

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
from lrlab.schedulers.simulate import Calibration, Noise, calibrate
from lrlab.schedules import constant
from measuring import digits, environment, interleave, parser, publish, spread, table, with_range

TITLE = "Rules that listen: cost, replay, calibration"
NOTHING = "no scheduler"
NUM_UPDATES = 20_000
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
        SlopeLR(optimizer), warmup_steps=100, cooldown_steps=100, total_steps=NUM_UPDATES
    ),
    "snr": SnrLR,
    "stationarity": StationarityLR,
}


def measure_updates(name: str, *, num_updates: int) -> float:
    """Microseconds an update of a loop that steps one number."""
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = Adam([parameter], 1e-3)
    parameter.grad = torch.ones(1)
    scheduler = RULES[name](optimizer) if name != NOTHING else None
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


def measure_replay(name: str, *, losses: torch.Tensor) -> float:
    """Seconds for recorded losses."""
    rule = LOSS_RULES[name](Adam([nn.Parameter(torch.zeros(1))], 1e-3))
    started = time.perf_counter()
    rule.replay(losses)
    return time.perf_counter() - started


def calibration_row(name: str, noise: Noise, found: Calibration) -> list[str]:
    """One row of the table: a rule and a kind of noise."""
    delays = "never" if found.delays is None else " / ".join(digits(delay) for delay in found.delays)
    shares = [f"{100 * share:.1f}" for share in (found.flat_share, found.early_share, found.never_share)]
    return [name, f"{noise.correlation:g}", f"{found.window:,}", *shares, delays]


def main() -> None:
    options = parser(__doc__).parse_args()
    facts = environment()
    torch.set_num_threads(1)
    num_updates, num_losses = (2_000, 20_000) if options.quick else (NUM_UPDATES, NUM_LOSSES)
    repeats = 1 if options.quick else options.repeats
    updates = interleave(
        [NOTHING, *RULES], lambda name: measure_updates(name, num_updates=num_updates), repeats=repeats
    )
    costs = {name: [one - base for one, base in zip(updates[name], updates[NOTHING], strict=True)] for name in RULES}
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
            f"{digits(spread(updates[NOTHING])['median'])} us an update. One thread.",
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
            "microseconds": updates,
            "replay_seconds": replays,
            "calibrations": [
                {"rule": name, "noise": asdict(noise), **asdict(found)} for name, noise, found in calibrations
            ],
        }
        publish("schedulers", title=TITLE, page=text, document=document, facts=facts)


if __name__ == "__main__":
    main()
