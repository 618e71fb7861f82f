"""PhasesLR: trajectories written by hand, and the same as the open-loop schedule where the rule never moves."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lrlab import schedules
from lrlab.schedulers import (
    ArticleLR,
    GreedyLR,
    LayerwiseLR,
    PhasesLR,
    PlateauLR,
    SignalScheduler,
    SlopeLR,
    SnrLR,
    StationarityLR,
)


def sgd(*rates: float) -> SGD:
    return SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def play(scheduler: SignalScheduler | LambdaLR, losses: list[float]) -> list[list[float]]:
    """Rates that each update was made with."""
    seen = []
    for loss in losses:
        seen.append([group["lr"] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        if isinstance(scheduler, SignalScheduler):
            scheduler.step(loss)
        else:
            scheduler.step()
    return seen


def test_a_trajectory_by_hand() -> None:
    optimizer = sgd(1.0, 0.1)
    rule = ArticleLR(optimizer, multiplier=0.001, check_every=3, factor=0.5)
    scheduler = PhasesLR(rule, warmup_steps=4, cooldown_steps=4, total_steps=14, shape="linear")
    # the rule hears updates 5 to 10: it decays at the first look, at equal losses, and keeps at the second
    losses = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 5.0, 5.0, 4.0, 3.0, 2.0, 2.0, 2.0, 2.0]
    expected = [
        0.25, 0.5, 0.75, 1.0,  # warm-up
        1.0, 1.0, 1.0,  # until the first look
        0.5, 0.5, 0.5,  # after the decay
        0.375, 0.25, 0.125, 0.0,  # cooldown from where the rule was
    ]  # fmt: skip
    seen = play(scheduler, losses)
    assert [row[0] for row in seen] == pytest.approx(expected)
    assert [row[1] for row in seen] == pytest.approx([0.1 * rate for rate in expected])
    decisions = scheduler.take_decisions()
    assert [(decision["step"], decision["decision"]) for decision in decisions] == [(7, "decay"), (10, "keep")]
    assert rule.decisions == []


def test_around_rates_per_layer_the_warmup_comes_to_the_multiplied_ones_by_hand() -> None:
    optimizer = sgd(1.0, 0.1)
    for group, name in zip(optimizer.param_groups, ("stem", "head"), strict=True):
        group["name"] = name
    rule = ArticleLR(optimizer, multiplier=0.001, check_every=3, factor=0.5)
    layerwise = LayerwiseLR(rule, {"stem": 0.1, "head": schedules.linear(7, start=4.0, end=1.0)})
    scheduler = PhasesLR(layerwise, warmup_steps=4, cooldown_steps=2, total_steps=12, shape="linear")
    # as above: the rule hears updates 5 to 10, decays after 7 and keeps after 10; the multiplier of the head too begins
    # after the warm-up
    seen = play(scheduler, [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 5.0, 5.0, 4.0, 3.0, 2.0, 2.0])
    assert [row[0] for row in seen] == pytest.approx(
        [0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.0]
    )
    assert [row[1] for row in seen] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.4, 0.35, 0.3, 0.125, 0.1, 0.075, 0.025, 0.0]
    )


def test_the_warmup_comes_to_a_rate_that_was_set_after_the_rule_was_made() -> None:
    rule = SlopeLR(sgd(1.0))
    rule.optimizer.param_groups[0]["lr"] = 0.4
    assert play(PhasesLR(rule, warmup_steps=2), [1.0] * 3) == [[0.2], [0.4], [0.4]]


def test_a_warmup_goes_on_where_the_optimizer_was_loaded_before_the_scheduler_was_made() -> None:
    first = PhasesLR(SlopeLR(sgd(1.0)), warmup_steps=4)
    play(first, [1.0] * 2)
    optimizer = sgd(1.0)
    optimizer.load_state_dict(first.optimizer.state_dict())
    second = PhasesLR(SlopeLR(optimizer), warmup_steps=4)
    second.load_state_dict(first.state_dict())
    assert play(second, [1.0] * 3)[1:] == [[1.0], [1.0]]


def test_a_state_that_an_earlier_version_saved_goes_on() -> None:
    first = PhasesLR(SlopeLR(sgd(1.0)), warmup_steps=4)
    play(first, [1.0] * 2)
    state = first.state_dict()
    del state["_warmup_to"]
    second = PhasesLR(SlopeLR(sgd(1.0)), warmup_steps=4)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(state)
    assert play(second, [1.0] * 3) == play(first, [1.0] * 3)


@pytest.mark.parametrize("shape", ["1-sqrt", "linear", "cosine"])
@pytest.mark.parametrize(("warmup", "cooldown"), [(0, 0), (7, 0), (0, 7), (10, 20), (25, 25), (0, 50)])
def test_around_a_rule_that_never_moves_it_is_wsd(warmup: int, cooldown: int, shape: schedules.CooldownShape) -> None:
    rule = SlopeLR(sgd(0.3), window=1000)
    scheduler = PhasesLR(rule, warmup_steps=warmup, cooldown_steps=cooldown, total_steps=50, shape=shape, end=0.1)
    reference = schedules.wsd(50, warmup_steps=warmup, cooldown_steps=cooldown, shape=shape, end=0.1)
    expected = [[0.3 * reference(index)] for index in range(50)]
    for row, wanted in zip(play(scheduler, [1.0] * 50), expected, strict=True):
        assert row == pytest.approx(wanted)


def test_past_the_end_the_last_rate_stays() -> None:
    scheduler = PhasesLR(SlopeLR(sgd(1.0)), cooldown_steps=3, total_steps=5, shape="linear", end=0.25)
    assert [row[0] for row in play(scheduler, [1.0] * 9)] == pytest.approx(
        [1, 1, 0.75, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25]
    )


@pytest.mark.parametrize("is_multiplied", [False, True])
@pytest.mark.parametrize("made", [8, 10])
def test_a_run_that_gets_more_updates_takes_its_cooldown_back(made: int, is_multiplied: bool) -> None:
    def build(total_steps: int) -> SignalScheduler:
        optimizer = sgd(1.0)
        optimizer.param_groups[0]["name"] = "all"
        rule = ArticleLR(optimizer, check_every=1000)
        phases = PhasesLR(rule, cooldown_steps=4, total_steps=total_steps, shape="linear")
        return LayerwiseLR(phases, {"all": 0.5}) if is_multiplied else phases

    short, longer = build(10), build(20)
    play(short, [1.0] * made)
    longer.optimizer.load_state_dict(short.optimizer.state_dict())
    longer.load_state_dict(short.state_dict())
    seen = [rate for (rate,) in play(longer, [1.0] * (20 - made))]
    expected = [1.0] * (16 - made) + [0.75, 0.5, 0.25, 0.0]
    assert seen == pytest.approx([(0.5 if is_multiplied else 1.0) * rate for rate in expected])


def continue_with(scheduler: SignalScheduler, saved: SignalScheduler) -> None:
    scheduler.optimizer.load_state_dict(saved.optimizer.state_dict())
    scheduler.load_state_dict(saved.state_dict())


@pytest.mark.parametrize("is_multiplied", [False, True])
@pytest.mark.parametrize(
    ("short", "longer", "made"),
    [
        ({"warmup_steps": 2}, {"warmup_steps": 20}, 1),
        ({"warmup_steps": 2}, {"warmup_steps": 20}, 4),  # it begins again
        ({"cooldown_steps": 5, "total_steps": 10}, {"cooldown_steps": 8, "total_steps": 16}, 9),  # still in both
    ],
)
def test_the_first_update_of_a_longer_run_is_made_at_the_rate_of_its_own_phase(
    short: dict[str, int], longer: dict[str, int], made: int, is_multiplied: bool
) -> None:
    def build(options: dict[str, int]) -> SignalScheduler:
        optimizer = sgd(1.0)
        optimizer.param_groups[0]["name"] = "all"
        phases = PhasesLR(SlopeLR(optimizer), **options)  # type: ignore[arg-type]
        return LayerwiseLR(phases, {"all": 0.5}) if is_multiplied else phases

    saved, scheduler = build(short), build(longer)
    play(saved, [1.0] * made)
    continue_with(scheduler, saved)
    assert play(scheduler, [1.0] * 4) == play(build(longer), [1.0] * (made + 4))[made:]


def test_in_a_run_with_a_longer_warmup_decisions_carry_the_update_they_were_made_at() -> None:
    def build(warmup_steps: int) -> PhasesLR:
        return PhasesLR(ArticleLR(sgd(1.0), check_every=3), warmup_steps=warmup_steps)

    short, longer = build(2), build(4)
    play(short, [1.0] * 10)
    continue_with(longer, short)
    play(longer, [1.0] * 5)
    assert [decision["step"] for decision in longer.take_decisions()] == [5, 8, 11, 14]


@pytest.mark.parametrize("is_multiplied", [False, True])
def test_no_stretch_goes_on_over_a_cooldown_that_is_taken_back(is_multiplied: bool) -> None:
    def build(total_steps: int) -> PhasesLR:
        optimizer = sgd(0.01)
        optimizer.param_groups[0]["name"] = "all"
        rule = StationarityLR(optimizer, check_every=4, sample_every=2)
        inner = LayerwiseLR(rule, {"all": 0.5}) if is_multiplied else rule
        return PhasesLR(inner, cooldown_steps=4, total_steps=total_steps)

    def go(scheduler: PhasesLR, num_updates: int) -> None:
        (weights,) = scheduler.optimizer.param_groups[0]["params"]
        for _ in range(num_updates):
            weights.grad = torch.ones(1)
            scheduler.optimizer.step()
            scheduler.step()

    short, longer = build(10), build(30)
    go(short, 9)  # the rule has looked at 4, and taken a sample at 6, the last update before the cooldown
    continue_with(longer, short)
    go(longer, 4)
    assert [decision["step"] for decision in longer.take_decisions()] == [4, 13]
    state = longer.state_dict()["_rule_state"]
    rule_state = state["_inner_state"] if is_multiplied else state
    assert rule_state["_num_drifts"] == 2  # from 2 to 4, and between the two samples of the four last updates


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # what is looked at in a row begins anew
        (lambda optimizer: SlopeLR(optimizer, window=10, check_every=5), {"num_losses": 5}),
        (lambda optimizer: ArticleLR(optimizer, check_every=5, multiplier=1e-9), {"num_losses": 5, "first_loss": 1.5}),
        # a mean of a whole stretch is one all the same, and stays
        (lambda optimizer: PlateauLR(optimizer, check_every=5), {"best": 1.0, "num_bad": 3}),
        (lambda optimizer: GreedyLR(optimizer, check_every=5), {"best": 1.0, "num_bad": 4}),
    ],
    ids=["slope", "article", "plateau", "greedy"],
)
def test_over_a_cooldown_that_is_taken_back_nothing_is_looked_at_in_a_row(
    rule: Callable[[Optimizer], SignalScheduler], expected: dict[str, float]
) -> None:
    short = PhasesLR(rule(sgd(1.0)), cooldown_steps=10, total_steps=32)
    longer = PhasesLR(rule(sgd(1.0)), cooldown_steps=10, total_steps=100)
    # a look at each fifth of the first 22 updates: the best mean is that of the first
    play(short, [1.0] * 5 + [2.0 + step for step in range(22)])
    continue_with(longer, short)
    longer.take_decisions()
    play(longer, [1.5] * 5)
    (decision,) = longer.take_decisions()
    assert decision["step"] == 32
    assert {name: decision[name] for name in expected} == expected


def test_where_the_warmup_begins_again_no_stretch_goes_on_over_it() -> None:
    def build(warmup_steps: int) -> PhasesLR:
        return PhasesLR(ArticleLR(sgd(1.0), check_every=3), warmup_steps=warmup_steps)

    short, longer = build(2), build(20)
    play(short, [1.0] * 4)  # the rule is two updates into its first stretch
    continue_with(longer, short)
    play(longer, [1.0] * 19)
    assert [decision["step"] for decision in longer.take_decisions()] == [23]


def test_the_warmup_comes_to_the_very_rate_it_began_from() -> None:
    for steps in range(1, 200):
        scheduler = PhasesLR(SlopeLR(sgd(0.1)), warmup_steps=steps)
        assert play(scheduler, [1.0] * (steps + 1))[-2:] == [[0.1], [0.1]]


def test_the_rule_hears_nothing_of_the_warmup() -> None:
    # a loss that falls throughout the warm-up and is flat afterwards: the window holds flat losses alone
    rule = SlopeLR(sgd(1.0), window=10, check_every=5)
    play(PhasesLR(rule, warmup_steps=30), [float(100 - step) for step in range(30)] + [1.0] * 9)
    assert rule.last_epoch == 9
    play_on = rule.state_dict()
    assert play_on["_num_losses"] == 4
    assert play_on["_window"].tolist() == [1.0] * 5


def test_a_rule_that_needs_no_loss_needs_none_within_phases() -> None:
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler = PhasesLR(SnrLR(optimizer), warmup_steps=2)
    optimizer.param_groups[0]["params"][0].grad = torch.ones(1)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_what_accelerate_takes_for_one_cycle_is_not_there() -> None:
    assert not hasattr(PhasesLR(SlopeLR(sgd(1.0)), cooldown_steps=1, total_steps=2), "total_steps")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_steps": -1}, "warmup_steps and cooldown_steps must be >= 0"),
        ({"cooldown_steps": 1}, "total_steps must be given and hold warm-up and cooldown, got 0 . 1 of None"),
        ({"warmup_steps": 3, "cooldown_steps": 3, "total_steps": 5}, "got 3 . 3 of 5. It counts updates"),
        ({"shape": "sqrt"}, "shape one of 1-sqrt, linear, cosine, got 0, 0, 0.0 and 'sqrt'"),
        ({"end": 1.5}, r"end in \[0, 1\]"),
    ],
)
def test_impossible_phases_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhasesLR(SlopeLR(sgd(1.0)), **options)  # type: ignore[arg-type]


def test_a_function_of_the_step_is_no_rule() -> None:
    with pytest.raises(ValueError, match=r"must be a scheduler that listens.*lrlab.schedules.phases"):
        PhasesLR(LambdaLR(sgd(1.0), schedules.constant()))  # type: ignore[arg-type]
