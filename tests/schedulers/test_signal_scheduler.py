"""What every scheduler that listens has in common, shown on each of them."""

import copy
import gc
import io
import pickle
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.utils._python_dispatch import TorchDispatchMode

from lrlab import schedules
from lrlab.schedulers import (
    ArticleLR,
    GreedyLR,
    LayerwiseLR,
    PhasesLR,
    PlateauLR,
    RuleLR,
    SignalScheduler,
    SlopeLR,
    SnrLR,
    StationarityLR,
    WeakGradients,
)
from lrlab.schedulers.statistics import centred_times

NUM_UPDATES = 120

Make = Callable[[Optimizer], SignalScheduler]

RULES: dict[str, Make] = {
    "article": lambda optimizer: ArticleLR(optimizer, multiplier=4.0, check_every=5),
    "plateau": lambda optimizer: PlateauLR(optimizer, check_every=5, patience=1, factor=0.5),
    "slope": lambda optimizer: SlopeLR(optimizer, window=20, check_every=7, level=0.49, min_progress=0.9),
    "dlib": lambda optimizer: SlopeLR(optimizer, test="dlib", window=20),
    "greedy": lambda optimizer: GreedyLR(optimizer, check_every=3, patience=1, max_lr=0.5, reset_start=2, min_lr=0.08),
    "snr": lambda optimizer: SnrLR(optimizer, check_every=20, sample_every=4),
    "stationarity": lambda optimizer: StationarityLR(
        optimizer, check_every=6, sample_every=2, min_samples=20, leak_ratio=1, level=0.006
    ),
}
"""Each set so that it decays within the losses below."""

WRAPPED: dict[str, Make] = {
    "phases": lambda optimizer: PhasesLR(
        SlopeLR(optimizer, window=20, check_every=7, level=0.49, min_progress=0.9),
        warmup_steps=10,
        cooldown_steps=30,
        total_steps=100,
    ),
    "layerwise": lambda optimizer: LayerwiseLR(
        RULES["article"](optimizer),
        {"stem": schedules.cosine(NUM_UPDATES, start=2.0), "head": WeakGradients(every=3), "linear": WeakGradients()},
    ),
    "layerwise of torch's": lambda optimizer: LayerwiseLR(CosineAnnealingLR(optimizer, T_max=50), {"stem": 0.1}),
    "phases of layerwise": lambda optimizer: PhasesLR(
        LayerwiseLR(
            SlopeLR(optimizer, window=20, check_every=7, level=0.49, min_progress=0.9),
            {
                "stem": schedules.cosine(NUM_UPDATES, start=2.0),
                "head": WeakGradients(every=3),
                "linear": WeakGradients(),
            },
        ),
        warmup_steps=10,
        cooldown_steps=30,
        total_steps=100,
    ),
    "layerwise of phases": lambda optimizer: LayerwiseLR(WRAPPED["phases"](optimizer), {"stem": 0.5, "linear": 2.0}),
}

SCHEDULERS = RULES | WRAPPED
LISTENERS = {
    name: make for name, make in SCHEDULERS.items() if name not in ("snr", "stationarity", "layerwise of torch's")
}

every_scheduler = pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
every_rule = pytest.mark.parametrize("make", RULES.values(), ids=RULES)
every_listener = pytest.mark.parametrize("make", LISTENERS.values(), ids=LISTENERS)


def make_optimizer(lr: float | Tensor = 0.1) -> Adam:
    """Adam over three named groups of two parameters each."""
    generator = torch.Generator().manual_seed(1)
    groups = [
        {
            "params": [nn.Parameter(torch.randn(4, generator=generator)) for _ in range(2)],
            "name": name,
            "lr": lr.clone() if isinstance(lr, Tensor) else lr,
        }
        for name in ("stem", "head", "linear")
    ]
    return Adam(groups, foreach=False)


def noisy_losses(count: int = NUM_UPDATES) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5


def update(optimizer: Optimizer, step: int) -> None:
    """One update by gradients that are a function of the step: at first the same way, then noise; larger by group."""
    generator = torch.Generator().manual_seed(step)
    for index, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.grad = (noise + 3.0 * (step <= NUM_UPDATES // 2)) * 10.0**index


def train(scheduler: SignalScheduler, losses: Iterable[Tensor | float], *, first: int = 1) -> list[list[float]]:
    """The rates of every group after each update."""
    seen = []
    for step, loss in enumerate(losses, first):
        update(scheduler.optimizer, step)
        scheduler.observe(loss)
        scheduler.optimizer.step()
        scheduler.step()
        seen.append([float(group["lr"]) for group in scheduler.optimizer.param_groups])
    return seen


def round_trip(state: dict[str, Any]) -> dict[str, Any]:
    """Through a file, as a checkpoint goes; nothing but tensors, numbers and strings gets through."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def copied(scheduler: SignalScheduler, make: Make) -> SignalScheduler:
    """A new scheduler on a new optimizer that was given the state of both."""
    saved = round_trip({"optimizer": scheduler.optimizer.state_dict(), "scheduler": scheduler.state_dict()})
    weights = [[parameter.detach() for parameter in group["params"]] for group in scheduler.optimizer.param_groups]
    optimizer = make_optimizer()
    other = make(optimizer)
    with torch.no_grad():
        for group, values in zip(optimizer.param_groups, weights, strict=True):
            for parameter, value in zip(group["params"], values, strict=True):
                parameter.copy_(value)
    optimizer.load_state_dict(saved["optimizer"])
    other.load_state_dict(saved["scheduler"])
    return other


@every_scheduler
def test_saved_and_loaded_at_every_update_it_goes_as_if_never_saved(make: Make) -> None:
    losses = noisy_losses()
    whole = make(make_optimizer())
    expected = train(whole, losses)
    scheduler, rates = make(make_optimizer()), []
    for step, loss in enumerate(losses, 1):
        rates += train(scheduler, loss[None], first=step)
        scheduler = copied(scheduler, make)
        assert [float(group["lr"]) for group in scheduler.optimizer.param_groups] == rates[-1], (
            "what the next one takes"
        )
    assert rates == expected
    assert scheduler.take_decisions() == whole.take_decisions()
    assert len({tuple(row) for row in expected}) > 1  # or it would show nothing


@given(stops=st.lists(st.integers(1, NUM_UPDATES - 1), max_size=5), name=st.sampled_from(sorted(SCHEDULERS)))
@settings(deadline=None, max_examples=40)
def test_saved_and_loaded_at_any_updates_it_goes_as_if_never_saved(stops: list[int], name: str) -> None:
    losses, make = noisy_losses(), SCHEDULERS[name]
    scheduler, rates, begin = make(make_optimizer()), [], 0
    for end in [*sorted(set(stops)), NUM_UPDATES]:
        rates += train(scheduler, losses[begin:end], first=begin + 1)
        scheduler, begin = copied(scheduler, make), end
    assert rates == train(make(make_optimizer()), losses)


@every_rule
def test_every_rule_decides_something_here(make: Make) -> None:
    scheduler = make(make_optimizer())
    train(scheduler, noisy_losses())
    decisions = {decision["decision"] for decision in scheduler.take_decisions()}
    assert decisions & {"decay", "raise"} and "keep" in decisions


@every_listener
def test_a_step_without_a_loss_raises(make: Make) -> None:
    scheduler = make(make_optimizer())
    update(scheduler.optimizer, 1)
    scheduler.optimizer.step()
    with pytest.raises(RuntimeError, match="was not given the loss of this update: call scheduler.observe"):
        scheduler.step()


@pytest.mark.parametrize("name", ["snr", "stationarity", "layerwise of torch's"])
def test_what_reads_the_optimizer_alone_needs_no_loss(name: str) -> None:
    told, silent = SCHEDULERS[name](make_optimizer()), SCHEDULERS[name](make_optimizer())
    expected, rates = train(told, noisy_losses()), []
    for step in range(1, NUM_UPDATES + 1):
        update(silent.optimizer, step)
        silent.optimizer.step()
        silent.step()
        rates.append([group["lr"] for group in silent.optimizer.param_groups])
    assert rates == expected


@every_scheduler
def test_a_forgotten_step_raises(make: Make) -> None:
    scheduler = make(make_optimizer())
    scheduler.observe(1.0)
    update(scheduler.optimizer, 1)
    scheduler.optimizer.step()
    with pytest.raises(RuntimeError, match=r"made an update and step\(\) was not called"):
        scheduler.observe(1.0)


@every_scheduler
def test_an_optimizer_that_never_steps_is_noticed(make: Make) -> None:
    scheduler = make(make_optimizer())
    with pytest.raises(RuntimeError, match=r"called 100 times, and the optimizer has not made one update"):
        for _ in range(100):
            scheduler.observe(1.0)
            scheduler.step()


@every_scheduler
def test_a_step_for_several_updates_is_refused(make: Make) -> None:
    # as ReduceLROnPlateau is stepped, once an epoch: the rate would stay what it is
    scheduler = make(make_optimizer())
    scheduler.observe(1.0)
    for step in range(3):
        update(scheduler.optimizer, step)
        scheduler.optimizer.step()
    with pytest.raises(
        RuntimeError, match=r"the optimizer made 3 updates since the last step\(\). It counts updates, not"
    ):
        scheduler.step()


def test_updates_that_no_hook_sees_any_more_are_noticed() -> None:
    scheduler = SlopeLR(make_optimizer())
    train(scheduler, noisy_losses(5))
    with pytest.raises(RuntimeError, match=r"1000 times since .* seen by a hook. A CUDA graph calls no hooks"):
        for _ in range(1000):  # as where a graph is replayed
            scheduler.observe(1.0)
            scheduler.step()


@every_scheduler
def test_updates_that_were_not_made_count_for_nothing(make: Make) -> None:
    # GradScaler leaves optimizer.step() out where it finds an infinity; the loop calls scheduler.step() all the same
    losses = noisy_losses()
    scheduler, rates = make(make_optimizer()), []
    for step, loss in enumerate(losses, 1):
        if step % 7 == 0:
            scheduler.observe(float("inf"))
            scheduler.step()
        rates += train(scheduler, loss[None], first=step)
    assert rates == train(make(make_optimizer()), losses)


@every_scheduler
def test_several_steps_after_one_update_count_once(make: Make) -> None:
    # Accelerate calls step() once for each process
    losses = noisy_losses()
    scheduler, rates = make(make_optimizer()), []
    for step, loss in enumerate(losses, 1):
        rates += train(scheduler, loss[None], first=step)
        for _ in range(3):
            scheduler.step()
    assert rates == train(make(make_optimizer()), losses)
    assert [[group["lr"] for group in scheduler.optimizer.param_groups]] == rates[-1:]


@every_scheduler
def test_a_number_and_a_tensor_of_one_are_the_same_loss(make: Make) -> None:
    losses = noisy_losses()
    forms = (float, Tensor.clone, lambda loss: loss.reshape(1), lambda loss: loss.reshape(1, 1))
    mixed = [forms[index % len(forms)](loss) for index, loss in enumerate(losses)]
    assert train(make(make_optimizer()), mixed) == train(make(make_optimizer()), losses)


@every_scheduler
def test_the_loss_of_several_batches_is_their_mean(make: Make) -> None:
    losses = noisy_losses()
    scheduler, rates = make(make_optimizer()), []
    for step, loss in enumerate(losses, 1):
        update(scheduler.optimizer, step)
        for part in (loss - 0.25, loss, loss + 0.25):
            scheduler.observe(part)
        scheduler.optimizer.step()
        scheduler.step()
        rates.append([group["lr"] for group in scheduler.optimizer.param_groups])
    assert rates == train(make(make_optimizer()), losses)


@every_rule
def test_the_constructor_leaves_the_rate_alone(make: Make) -> None:
    scheduler = make(make_optimizer(0.3))
    assert [group["lr"] for group in scheduler.optimizer.param_groups] == [0.3] * 3
    assert scheduler.get_last_lr() == [0.3] * 3


@every_scheduler
def test_stepping_with_the_loss_is_observing_before(make: Make) -> None:
    losses = noisy_losses()
    scheduler, rates = make(make_optimizer()), []
    if scheduler._reads_gradients:
        update(scheduler.optimizer, 1)
        scheduler.optimizer.step()
        with pytest.raises(RuntimeError, match="measures gradients, which the update may have changed: call scheduler"):
            scheduler.step(1.0)
        return
    for step, loss in enumerate(losses, 1):
        update(scheduler.optimizer, step)
        scheduler.optimizer.step()
        scheduler.step(float(loss))
        rates.append([group["lr"] for group in scheduler.optimizer.param_groups])
    assert rates == train(make(make_optimizer()), losses)
    assert scheduler.get_last_lr() == rates[-1]


@every_scheduler
def test_a_tensor_rate_is_written_in_place(make: Make) -> None:
    as_tensor = make(make_optimizer(torch.tensor(0.1, dtype=torch.float64)))
    tensors = [group["lr"] for group in as_tensor.optimizer.param_groups]
    for row, expected in zip(
        train(as_tensor, noisy_losses()), train(make(make_optimizer()), noisy_losses()), strict=True
    ):
        assert row == pytest.approx(expected)
    assert all(group["lr"] is rate for group, rate in zip(as_tensor.optimizer.param_groups, tensors, strict=True))


class Reads(TorchDispatchMode):
    """Counts the numbers that are read from tensors, each of which waits for a device."""

    count = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += operation.overloadpacket is torch.ops.aten._local_scalar_dense
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: LayerwiseLR(ArticleLR(optimizer, check_every=100), {"stem": 0.5}),
        lambda optimizer: PhasesLR(
            ArticleLR(optimizer, check_every=100), warmup_steps=5, cooldown_steps=5, total_steps=15
        ),
    ],
)
def test_between_looks_no_tensor_rate_is_read_but_once_where_a_cooldown_begins(make: Make) -> None:
    optimizer = make_optimizer(torch.tensor(0.1))
    scheduler = make(optimizer)
    counts = []
    for _ in range(15):
        optimizer.step()
        with Reads() as reads:
            scheduler.step(1.0)
        counts.append(reads.count)
    assert sum(counts) == (len(optimizer.param_groups) if isinstance(scheduler, PhasesLR) else 0)


@every_rule
def test_a_tensor_rate_that_groups_share_is_written_once(make: Make) -> None:
    rate = torch.tensor(0.1, dtype=torch.float64)
    optimizer = make_optimizer()
    for group in optimizer.param_groups:
        group["lr"] = rate  # as Adam(groups, lr=tensor) does
    for row, expected in zip(
        train(make(optimizer), noisy_losses()), train(make(make_optimizer()), noisy_losses()), strict=True
    ):
        assert row == pytest.approx(expected)


@every_scheduler
def test_a_group_that_was_added_later_is_steered_too(make: Make) -> None:
    scheduler = make(make_optimizer())
    if isinstance(scheduler, LayerwiseLR) and isinstance(scheduler.scheduler, CosineAnnealingLR):
        pytest.skip("torch's own cannot: pytorch/pytorch#79888")
    losses = noisy_losses()
    train(scheduler, losses[:12])
    added = nn.Parameter(torch.ones(4))
    scheduler.optimizer.add_param_group({"params": [added], "lr": 0.2, "name": "added"})
    rates = train(scheduler, losses[12:], first=13)
    assert len({row[-1] for row in rates}) > 1
    assert len(scheduler.get_last_lr()) == 4


@every_scheduler
def test_a_saved_state_does_not_change_afterwards(make: Make) -> None:
    scheduler = make(make_optimizer())
    train(scheduler, noisy_losses(20))
    state = scheduler.state_dict()
    before = round_trip(state)
    train(scheduler, noisy_losses(60), first=21)
    assert str(state) == str(before)


@every_scheduler
def test_the_state_holds_no_settings(make: Make) -> None:
    settings = {"check_every", "factor", "min_lr", "window", "level", "patience", "optimizer"}
    assert not settings & make(make_optimizer()).state_dict().keys()


def test_the_state_of_another_rule_is_refused() -> None:
    state = ArticleLR(make_optimizer()).state_dict()
    with pytest.raises(ValueError, match="SlopeLR: this is the state of another scheduler"):
        SlopeLR(make_optimizer()).load_state_dict(state)


@every_rule
def test_a_stretch_with_a_loss_that_is_not_finite_is_left_out(make: Make) -> None:
    scheduler = make(make_optimizer())
    if not scheduler.needs_observe:
        pytest.skip("it reads no loss")
    losses = noisy_losses()
    losses[50] = float("nan")
    train(scheduler, losses)
    without = [decision for decision in scheduler.take_decisions() if "num_not_finite" in decision]
    assert [(look["num_not_finite"], look["decision"]) for look in without] == [(1, "keep")]
    assert 50 < without[0]["step"] <= 50 + scheduler.check_every
    assert without[0]["lr_after"] == without[0]["lr_before"]


@every_scheduler
def test_the_loss_keeps_no_graph_alive(make: Make) -> None:
    scheduler = make(make_optimizer())
    update(scheduler.optimizer, 1)
    scheduler.observe(torch.ones(1, requires_grad=True).sum())
    kept = [value for value in vars(scheduler).values() if isinstance(value, Tensor)]
    assert kept and not any(value.requires_grad for value in kept)


@every_scheduler
def test_a_copy_goes_on_with_its_copied_optimizer(make: Make) -> None:
    losses, whole, scheduler = noisy_losses(), make(make_optimizer()), make(make_optimizer())
    expected = train(whole, losses)
    before = train(scheduler, losses[:50])
    other = copy.deepcopy(scheduler)
    assert before + train(other, losses[50:], first=51) == expected
    assert before + train(scheduler, losses[50:], first=51) == expected


@pytest.mark.parametrize("name", ["slope", "phases"])
def test_pickled_and_unpickled_it_goes_on(name: str) -> None:
    losses, scheduler = noisy_losses(), SCHEDULERS[name](make_optimizer())
    before = train(scheduler, losses[:50])
    other = pickle.loads(pickle.dumps(scheduler))
    assert before + train(other, losses[50:], first=51) == train(SCHEDULERS[name](make_optimizer()), losses)


def test_the_loss_is_taken_as_it_is_when_it_is_observed() -> None:
    # a CUDA graph writes every loss into the same memory
    scheduler, memory = SlopeLR(make_optimizer(), window=10, check_every=1), torch.zeros(())
    update(scheduler.optimizer, 1)
    for loss in (1.0, 3.0):
        scheduler.observe(memory.fill_(loss))
    scheduler.optimizer.step()
    scheduler.step()
    assert scheduler.state_dict()["_window"].tolist() == [2.0]


RATHER = {
    "slope": lambda optimizer, every: SlopeLR(optimizer, window=100, check_every=every),
    "snr": lambda optimizer, every: SnrLR(optimizer, check_every=every, sample_every=2),
    "stationarity": lambda optimizer, every: StationarityLR(optimizer, check_every=every, sample_every=2),
}


@pytest.mark.parametrize("name", RATHER)
@pytest.mark.parametrize("every", [20, 60])
def test_loaded_with_another_stretch_the_one_under_way_begins_anew(name: str, every: int) -> None:
    scheduler = RATHER[name](make_optimizer(), 40)
    train(scheduler, noisy_losses(30))
    other = RATHER[name](make_optimizer(), every)
    other.load_state_dict(round_trip(scheduler.state_dict()))
    train(other, noisy_losses(every), first=31)
    assert [decision["step"] for decision in other.take_decisions()] == [30 + every]


def test_loaded_with_another_stretch_a_window_leaves_none_out() -> None:
    saved, loaded = (SlopeLR(make_optimizer(), window=10, check_every=every) for every in (4, 5))
    train(saved, noisy_losses(6))  # of which it has looked at four
    loaded.load_state_dict(round_trip(saved.state_dict()))
    train(loaded, noisy_losses(10), first=7)
    assert [decision["num_losses"] for decision in loaded.take_decisions()[1:]] == [5, 10]


def test_where_tensors_are_made_elsewhere_by_default_it_decides_on_the_processor() -> None:
    optimizer = make_optimizer()
    expected = train(RULES["slope"](make_optimizer()), noisy_losses())
    losses = noisy_losses().tolist()
    centred_times.cache_clear()
    with torch.device("meta"):  # as torch.set_default_device("cuda")
        scheduler = RULES["slope"](optimizer)
        seen = []
        for step, loss in enumerate(losses, 1):
            with torch.device("cpu"):
                update(scheduler.optimizer, step)
                scheduler.optimizer.step()
            scheduler.step(loss)
            seen.append([group["lr"] for group in scheduler.optimizer.param_groups])
    assert seen == expected


@every_scheduler
def test_it_goes_when_nobody_needs_it(make: Make) -> None:
    scheduler = make(make_optimizer())
    gone = weakref.ref(scheduler)
    optimizer = scheduler.optimizer
    del scheduler
    gc.collect()
    assert gone() is None and optimizer is not None


@every_rule
def test_replayed_losses_make_the_decisions_of_training(make: Make) -> None:
    trained, replayed = make(make_optimizer()), make(make_optimizer())
    if not isinstance(replayed, RuleLR) or not replayed.needs_observe:
        with pytest.raises(RuntimeError, match="does not decide from the loss"):
            replayed.replay(noisy_losses())  # type: ignore[union-attr]
        return
    losses = noisy_losses()
    train(trained, losses)
    decisions = [decision for part in losses.split([1, 2, 50, 67]) for decision in replayed.replay(part)]
    assert decisions == trained.take_decisions()
    assert replayed.take_decisions() == []
    assert replayed.state_dict()["last_epoch"] == NUM_UPDATES


def test_decisions_that_nobody_takes_are_not_kept_for_ever() -> None:
    scheduler = PlateauLR(make_optimizer(), check_every=1)
    train(scheduler, noisy_losses(10_050))
    decisions = scheduler.take_decisions()
    assert (len(decisions), decisions[0]["step"], decisions[-1]["step"]) == (10_000, 51, 10_050)


def test_a_replay_returns_its_decisions_however_many_there_are() -> None:
    decisions = PlateauLR(make_optimizer(), check_every=1).replay(noisy_losses(10_050))
    assert [decision["step"] for decision in decisions] == list(range(1, 10_051))


def test_plateau_is_torchs_rule_on_the_mean_of_each_stretch() -> None:
    losses = noisy_losses(200)
    ours, theirs = make_optimizer(), make_optimizer()
    scheduler = PlateauLR(ours, check_every=10, patience=2, factor=0.5, cooldown=1)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, patience=2, factor=0.5, cooldown=1)
    for stretch in losses.view(20, 10):
        scheduler.replay(stretch)
        reference.step(stretch.mean().item())
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
    assert theirs.param_groups[0]["lr"] < 0.1


def test_at_its_floor_plateau_goes_on_firing() -> None:
    # torch moves no rate by 1e-8 or less, so that one of 1e-3 can fall five times
    scheduler = PlateauLR(make_optimizer(1e-3), check_every=1, patience=1)
    decisions = scheduler.replay(torch.ones(40, dtype=torch.float64))
    fired = [one["step"] for one in decisions if one["decision"] == "decay"]
    assert fired == list(range(3, 41, 2))


def test_what_is_no_optimizer_and_what_is_no_loss_of_a_batch_is_refused() -> None:
    with pytest.raises(TypeError, match="SlopeLR: it needs an optimizer, got Linear"):
        SlopeLR(nn.Linear(1, 1))  # type: ignore[arg-type]
    scheduler = SlopeLR(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))
    with pytest.raises(ValueError, match=r"the loss of a batch is one number, got a tensor of shape \(3,\)"):
        scheduler.observe(torch.ones(3))
    with pytest.raises(TypeError, match="the loss of a batch is a number or a tensor of one, got None"):
        scheduler.observe(None)  # type: ignore[arg-type]
    scheduler.observe(np.float32(1.0))  # type: ignore[arg-type]


def test_losses_of_half_precision_are_added_up_in_single() -> None:
    torch.manual_seed(0)
    weights = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weights], lr=0.1)
    rule = PlateauLR(optimizer, check_every=1)
    weights.grad = torch.zeros(1)
    losses = (2.3 + 0.1 * torch.randn(256)).to(torch.bfloat16)
    for loss in losses:
        rule.observe(loss)
    optimizer.step()
    rule.step()
    (decision,) = rule.take_decisions()
    assert decision["mean_loss"] == pytest.approx(float(losses.double().mean()), rel=1e-6)


def test_a_rule_as_a_later_part_of_a_sequential_lr_says_what_to_take_instead() -> None:
    weights = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weights], lr=1.0)
    rule = PlateauLR(optimizer)
    whole = SequentialLR(optimizer, [LinearLR(optimizer, 0.5, total_iters=3), rule], milestones=[3])
    with pytest.raises(RuntimeError, match="For a warm-up, use PhasesLR"):
        for _ in range(4):
            optimizer.step()
            whole.step()


def test_a_rate_that_is_below_the_floor_already_is_left_alone_by_a_decay() -> None:
    low, high = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [low], "lr": 1e-5}, {"params": [high], "lr": 1e-2}], lr=1.0)
    rule = PlateauLR(optimizer, check_every=1, patience=0, factor=0.1, min_lr=1e-3)
    for _ in range(3):
        optimizer.step()
        rule.step(1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-5, 1e-3]
