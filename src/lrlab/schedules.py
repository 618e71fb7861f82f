"""Open-loop schedules: pure functions from the update index to a multiplier of the base rate.

The index counts the updates already made, from 0, as the schedulers of PyTorch do; a run of `total_steps` updates
asks for the indices 0 to total_steps - 1. Past its end a schedule keeps its last value, so that nothing raises.

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine(total_steps=10_000))
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Literal

Schedule = Callable[[int], float]
"""Update index, from 0 -> multiplier of the base rate."""

CooldownShape = Literal["1-sqrt", "linear", "cosine"]


def constant() -> Schedule:
    """Multiplier 1 throughout."""
    return lambda index: 1.0


def step(step_size: int, *, factor: float) -> Schedule:
    """Decay by `factor` every `step_size` updates: factor ** (index // step_size)."""
    return lambda index: float(factor ** (index // step_size))


def linear(total_steps: int, *, start: float = 1.0, end: float = 0.0) -> Schedule:
    """Straight line from `start` at the first update to `end` at the last.

    Formula: start + (end - start) * p with p = index / (total_steps - 1), held at 1 past the end.
    """
    return lambda index: start + (end - start) * _progress(index, total_steps)


def cosine(total_steps: int, *, start: float = 1.0, end: float = 0.0) -> Schedule:
    """Half a cosine from `start` at the first update to `end` at the last.

    Formula: end + (start - end) * (1 + cos(pi * p)) / 2 with p as in `linear`.
    Source: Loshchilov and Hutter, 2017, arXiv:1608.03983, equation (5), without restarts.
    """
    return lambda index: end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * _progress(index, total_steps)))


def one_minus_sqrt(total_steps: int, *, start: float = 1.0, end: float = 0.0) -> Schedule:
    """Fall fast, then slowly: end + (start - end) * (1 - sqrt(p)) with p as in `linear`.

    Source: Haegele et al., 2024, arXiv:2405.18392, section 3 (the "1-sqrt" cooldown).
    """
    return lambda index: end + (start - end) * (1.0 - math.sqrt(_progress(index, total_steps)))


COOLDOWNS: dict[CooldownShape, Callable[..., Schedule]] = {
    "1-sqrt": one_minus_sqrt,
    "linear": linear,
    "cosine": cosine,
}


def phases(
    body: Schedule,
    *,
    total_steps: int,
    warmup_steps: int = 0,
    cooldown_steps: int = 0,
    shape: CooldownShape = "1-sqrt",
    end: float = 0.0,
) -> Schedule:
    """A warm-up to a schedule and a cooldown from it that ends with the run.

    The first update of the warm-up has multiplier body(0) / warmup_steps. The body plays from its own index 0 after the
    warm-up; the cooldown falls from its last value to `end` times it, which the last update has.

    Raises: ValueError if warm-up and cooldown together are longer than the run.
    Source: the shapes of the cooldown after Haegele et al., 2024, arXiv:2405.18392.
    """
    body_steps = total_steps - warmup_steps - cooldown_steps
    if min(warmup_steps, cooldown_steps, body_steps) < 0:
        raise ValueError(
            f"phases: warmup_steps + cooldown_steps must be between 0 and total_steps = {total_steps}, "
            f"got {warmup_steps} + {cooldown_steps}. They count updates."
        )
    up = linear(warmup_steps, start=1.0 / max(1, warmup_steps), end=1.0)
    fall = COOLDOWNS[shape](cooldown_steps + 1, end=end)  # its index 0 is the last update of the body
    first, last = body(0), body(max(0, body_steps - 1))
    return join(
        [lambda index: first * up(index), body, lambda index: last * fall(index + 1)],
        [warmup_steps, body_steps, cooldown_steps],
    )


def wsd(
    total_steps: int,
    *,
    warmup_steps: int,
    cooldown_steps: int,
    shape: CooldownShape = "1-sqrt",
    end: float = 0.0,
) -> Schedule:
    """Warm-up, stable, decay: a line up to 1, constant, and a cooldown to `end` that ends with the run.

    The first update of the warm-up has multiplier 1 / warmup_steps, the last of the cooldown has `end`.

    Raises: ValueError if warm-up and cooldown together are longer than the run.
    Source: Hu et al., 2024, arXiv:2404.06395, section 4.2; the shape after arXiv:2405.18392.
    """
    return phases(
        constant(),
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        cooldown_steps=cooldown_steps,
        shape=shape,
        end=end,
    )


def one_cycle(
    total_steps: int, *, warmup_fraction: float = 0.3, div_factor: float = 25.0, final_div_factor: float = 1e4
) -> Schedule:
    """Up by a cosine from 1 / div_factor to 1, then down by a cosine to 1 / (div_factor * final_div_factor).

    The peak comes at index warmup_fraction * total_steps - 1, as in torch.optim.lr_scheduler.OneCycleLR, whose
    rates these are (a test holds them equal); momentum is left alone.

    Source: Smith and Topin, 2018, arXiv:1708.07120.
    """
    peak = warmup_fraction * total_steps - 1.0
    last = total_steps - 1.0
    start, end = 1.0 / div_factor, 1.0 / (div_factor * final_div_factor)

    def between(low: float, high: float, share: float) -> float:
        return high + (low - high) * 0.5 * (1.0 + math.cos(math.pi * share))

    def schedule(index: int) -> float:
        if index < peak:
            return between(start, 1.0, index / peak)
        return between(1.0, end, min(1.0, (index - peak) / (last - peak)) if last > peak else 1.0)

    return schedule


def table(multipliers: Sequence[float], *, total_steps: int) -> Schedule:
    """Straight lines between multipliers that are evenly spaced from the first update to the last.

    Raises: ValueError for fewer than two, or one that is negative or not finite.
    """
    values = tuple(multipliers)
    if len(values) < 2 or not all(0 <= value < math.inf for value in values):
        raise ValueError(f"table: needs at least two finite multipliers >= 0, got {list(values)[:5]}.")

    def schedule(index: int) -> float:
        position = _progress(index, total_steps) * (len(values) - 1)
        below = min(int(position), len(values) - 2)
        share = position - below
        return values[below] * (1.0 - share) + values[below + 1] * share

    return schedule


def join(schedules: Sequence[Schedule], lengths: Sequence[int]) -> Schedule:
    """Play schedules one after another, each from its own index 0; the last one goes on past its length.

    Args:
        schedules: at least one.
        lengths: updates given to each; one that gets 0 is left out.
    Raises: ValueError unless there is one length for each schedule, none negative and not all zero.
    """
    if len(schedules) != len(lengths) or min(lengths, default=-1) < 0 or not any(lengths):
        raise ValueError(
            f"join: needs one length (>= 0, not all 0) for each of {len(schedules)} schedules, got {list(lengths)}."
        )
    played = [(schedule, length) for schedule, length in zip(schedules, lengths, strict=True) if length]
    starts = [0, *accumulate(length for _, length in played)][:-1]

    def joined(index: int) -> float:
        current = bisect_right(starts, index) - 1
        return played[current][0](index - starts[current])

    return joined


def _progress(index: int, total_steps: int) -> float:
    return min(1.0, index / max(1, total_steps - 1))  # a run of one update makes it at the start
