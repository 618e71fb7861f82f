"""Ranks that are killed, hang or get a signal, many times in one run, which torchrun starts again each time.

    python benchmarks/rank_faults.py

A run of two ranks on real 8x8 digits has one fault after another done to a rank drawn at random, at a moment drawn at
random: SIGKILL, SIGSTOP (it hangs), SIGTERM (all are saved). It must end as the same run that nobody disturbed:
weights, state, rows once each, evaluations and decisions, to the bit. Measured are the seconds from a fault until all
ranks of that start are gone, which must be under 60. Exit code 1 if any of that fails.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import tomli_w

from kills import compare
from launching import Launched, launch
from measuring import digits, environment, parser, publish, table

TITLE = "Faults of ranks"
FAULTS = {"killed": signal.SIGKILL, "hangs": signal.SIGSTOP, "told to end": signal.SIGTERM}
CONFIG = {
    "model": {"width": 2},
    "batch_size": 16,
    "checkpoint": {"every": 20},
    "evaluate": {"every": 200},
    "telemetry": {"flush_every": 10},
    "schedule": {"name": "article", "check_every": 9, "multiplier": 1000.0},
    "device": "cpu",  # also where there is a GPU, whose digits do not repeat
}


def main() -> int:
    options = parser(__doc__ or "", repeats=12)
    options.add_argument("--seed", type=int, default=0, help="of the draws [0]")
    given = options.parse_args()
    repeats = 2 if given.quick else given.repeats
    facts, draws = environment(), random.Random(given.seed)
    kinds = [kind for kind in FAULTS for _ in range(-(-repeats // len(FAULTS)))][:repeats]
    draws.shuffle(kinds)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "tiny.toml").write_text(tomli_w.dumps({**CONFIG, "steps": 400 * (repeats + 1)}))
        undisturbed = start(place, "undisturbed", num_restarts=0)
        if undisturbed.wait():
            raise RuntimeError(undisturbed.text())
        launched = start(place, "run", num_restarts=repeats)
        found = [(kind, *disturb(launched, place / "run", kind, draws)) for kind in kinds]
        code = launched.wait()
        differences = compare(place / "undisturbed", place / "run") if code == 0 else [launched.text()]
    rows = []
    for kind in FAULTS:
        seconds = [after for what, _, after in found if what == kind]
        if seconds:
            rows.append([kind, str(len(seconds)), digits(min(seconds)), digits(max(seconds))])
    verdict = (
        f"differs: {'; '.join(differences)}" if differences else "ended as the one that was not disturbed, to the bit"
    )
    text = f"{table(['a rank', 'times', 'least s until all ended', 'most'], rows)}\n\nThe run {verdict}."
    print(text)
    if not given.quick:
        publish("rank-faults", title=TITLE, page=text, document={"faults": found}, facts=facts)
    return 1 if differences or any(after > 60 for *_, after in found) else 0


def start(place: Path, name: str, *, num_restarts: int) -> Launched:
    arguments = ("train", "--config", str(place / "tiny.toml"), "--run", str(place / name))
    return launch(*arguments, log=place / f"{name}.log", num_restarts=num_restarts)


def disturb(launched: Launched, run: Path, kind: str, draws: random.Random) -> tuple[int, float]:
    """Do something to a rank once the run has come further; return which, and seconds until all of them are gone."""
    before = newest(run)
    launched.wait_until(lambda: newest(run) > before and len(launched.ranks()) == 2)
    time.sleep(draws.uniform(0, 2))
    ranks = launched.ranks()
    rank = draws.choice(sorted(ranks))
    os.kill(ranks[rank], FAULTS[kind])
    started = time.monotonic()
    launched.wait_until(lambda: not set(ranks.values()) & set(launched.ranks().values()))
    return rank, time.monotonic() - started


def newest(run: Path) -> int:
    return max((int(path.name.removeprefix("step-")) for path in run.glob("checkpoints/step-*")), default=0)


if __name__ == "__main__":
    sys.exit(main())
