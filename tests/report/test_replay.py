"""The picture of a replay shows what was decided, at the updates it was decided at."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrlab.config import parse_config
from lrlab.experiments import replay_rule
from lrlab.report import write_replay
from lrlab.report.replay import STATISTICS, draw_replay

RULES: dict[str, dict[str, Any]] = {
    "article": {"name": "article", "check_every": 10, "multiplier": 10.0},
    "slope": {"name": "slope", "window": 20, "min_progress": 0.2},
    "dlib": {"name": "slope", "window": 20, "test": "dlib"},
    "greedy": {"name": "greedy", "check_every": 2, "patience": 1},
    "plateau": {"name": "plateau", "check_every": 5, "patience": 1},
}


def losses(count: int = 200) -> np.ndarray:
    found = 1.0 + np.exp(-np.arange(count) / 20) + 0.05 * np.random.default_rng(0).standard_normal(count)
    found[3] = math.nan
    return found


@pytest.mark.parametrize("name", RULES)
def test_rate_and_evidence_stand_at_the_updates_of_the_decisions(name: str) -> None:
    decisions = replay_rule(parse_config({"schedule": RULES[name]}), losses())
    steps = 10.0 * np.arange(1, 201)  # every tenth update was recorded
    above, middle, below = draw_replay(steps, losses(), decisions, title="a rule").axes
    rates = [(decision["lr_before"][0], decision["lr_after"][0]) for decision in decisions]
    shown = [f"{before:.6g}" != f"{after:.6g}" for before, after in rates]  # 0.001 * 0.1^3 is a little above 1e-6
    moved = [10.0 * decision["step"] for decision, moves in zip(decisions, shown, strict=True) if moves]
    assert moved
    marks = [line.get_xdata()[0] for line in above.lines if len(set(line.get_xdata())) == 1]  # type: ignore[arg-type, index]
    assert marks == moved
    (rate, *_) = middle.lines
    assert rate.get_ydata()[-1] == max(decisions[-1]["lr_after"])  # type: ignore[index]
    key, label = STATISTICS[name]
    (dots, *_) = below.lines
    compared = [decision for decision in decisions if decision.get(key) is not None]
    assert list(dots.get_ydata()) == [abs(decision[key]) for decision in compared]  # type: ignore[arg-type]
    assert list(dots.get_xdata()) == [10.0 * decision["step"] for decision in compared]  # type: ignore[arg-type]
    assert below.get_ylabel() == label


def test_a_single_loss_of_update_zero_is_drawn(tmp_path: Path) -> None:
    decisions = replay_rule(parse_config({"schedule": {"name": "article", "check_every": 1}}), np.array([2.0]))
    write_replay(tmp_path / "a.png", np.array([0.0]), np.array([2.0]), decisions, title="")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("count", [20, 21])
def test_as_few_losses_as_make_a_decision_are_drawn(tmp_path: Path, count: int) -> None:
    decisions = replay_rule(parse_config({"schedule": RULES["slope"]}), losses()[:count])
    write_replay(
        str(tmp_path / "a.png"), np.arange(1.0, count + 1), losses()[:count], decisions, title=r"pay$\foo$x <b>"
    )
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
