"""After a range test all is as it was before, bit for bit, whatever the loop is made of."""

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

from lrlab.schedulers import SlopeLR
from lrlab.training import range_test, restored

Batch = tuple[Tensor, Tensor]


class Noisy(Dataset[Batch]):
    """Examples that are varied by every random state there is."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(5)
        self.inputs = torch.randn(48, 6, generator=torch.Generator().manual_seed(1))
        self.labels = (self.inputs.sum(1) > 0).long()

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> Batch:
        noise = random.random() + np.random.random() + self.generator.random() + torch.rand(()).item()
        return self.inputs[index] + 0.01 * noise, self.labels[index]


def make_model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        frozen = nn.BatchNorm1d(8).eval()  # a mode of its own in a model that trains
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), frozen, nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))


def loader(kind: str) -> DataLoader[Batch]:
    if kind == "global":
        return DataLoader(Noisy(), batch_size=8, shuffle=True)
    if kind == "own generator":
        return DataLoader(Noisy(), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(2))
    return DataLoader(Noisy(), batch_size=8, sampler=RandomSampler(Noisy(), generator=torch.Generator().manual_seed(3)))


OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "sgd": lambda model: SGD(model.parameters(), lr=0.05, momentum=0.9),
    "adam": lambda model: Adam(model.parameters(), lr=torch.tensor(0.01)),
    "groups": lambda model: AdamW(
        [{"params": model[0].parameters(), "lr": 0.001}, {"params": [*model[1:].parameters()], "lr": 0.01}]  # type: ignore[index]
    ),
    "fused": lambda model: Adam(model.parameters(), lr=0.01, amsgrad=True, fused=True),
}


def make_update(model: nn.Module, optimizer: Optimizer) -> Callable[[Batch], Tensor]:
    def update(batch: Batch) -> Tensor:
        inputs, labels = batch
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return update


def seed_everything() -> None:
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)


def train_twice(
    optimizer_name: str, loader_kind: str, between: Callable[[nn.Module, Optimizer, Any], None]
) -> tuple[list[float], list[Tensor], list[bool]]:
    """Two epochs, and something between them: losses, weights, buffers and moments, and modes."""
    seed_everything()
    model, batches = make_model(), loader(loader_kind)
    optimizer = OPTIMIZERS[optimizer_name](model)
    update, losses = make_update(model, optimizer), []
    for epoch in range(2):
        losses += [update(batch).item() for batch in batches]
        if epoch == 0:
            between(model, optimizer, batches)
    moments = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    tensors = [
        *model.state_dict().values(),
        *moments,
        torch.rand(3),
        torch.tensor([random.random(), np.random.random()]),
    ]
    return losses, tensors, [module.training for module in model.modules()]


def nothing(model: nn.Module, optimizer: Optimizer, batches: Any) -> None:
    pass


def range_test_between(model: nn.Module, optimizer: Optimizer, batches: Any) -> None:
    found = range_test(make_update(model, optimizer), batches, model, optimizer, num_steps=20, seeds=(0, 1))
    assert len({sweep.losses for sweep in found.sweeps}) == 2  # another seed is another order


def error_between(model: nn.Module, optimizer: Optimizer, batches: Any) -> None:
    update, num_left = make_update(model, optimizer), [12]

    def fail(batch: Batch) -> Tensor:
        num_left[0] -= 1
        model.eval()
        if not num_left[0]:
            raise KeyboardInterrupt
        return update(batch)

    with pytest.raises(KeyboardInterrupt):
        range_test(fail, batches, model, optimizer, num_steps=40)


@pytest.mark.parametrize("between", [range_test_between, error_between], ids=["to its end", "broken off"])
@pytest.mark.parametrize("loader_kind", ["global", "own generator", "sampler"])
@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
def test_training_goes_on_as_if_nothing_had_been_tried(
    optimizer_name: str, loader_kind: str, between: Callable[[nn.Module, Optimizer, Any], None]
) -> None:
    losses, tensors, modes = train_twice(optimizer_name, loader_kind, nothing)
    tried_losses, tried_tensors, tried_modes = train_twice(optimizer_name, loader_kind, between)
    assert tried_losses == losses
    assert tried_modes == modes
    assert len(tensors) == len(tried_tensors)
    assert all(torch.equal(tried, plain) for tried, plain in zip(tried_tensors, tensors, strict=True))


def test_the_gradients_and_a_rule_that_listens_are_as_they_were() -> None:
    def losses(*, tried: bool) -> tuple[list[float], list[float]]:
        seed_everything()
        model = make_model()
        optimizer = SGD(model.parameters(), lr=0.1)
        rule = SlopeLR(optimizer, window=20, check_every=10, min_progress=0.9, level=0.4)
        batches, seen, rates = loader("global"), [], []
        for inputs, labels in [batch for _ in range(8) for batch in batches]:
            loss = nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()  # the gradient is there, and a range test comes between
            rule.observe(loss)
            if tried and len(seen) == 25:
                range_test(make_update(model, optimizer), batches, model, optimizer, num_steps=20, seeds=(0,))
            optimizer.step()
            rule.step()
            optimizer.zero_grad()
            seen.append(loss.item())
            rates.append(float(optimizer.param_groups[0]["lr"]))
        return seen, rates

    plain = losses(tried=False)
    assert losses(tried=True) == plain
    assert len(set(plain[1])) > 1  # the rule decayed


class Rebinds(nn.Module):
    """Replaces its buffer and counts its calls in attributes of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("running", torch.zeros(2), persistent=False)
        self.calls = {"num": 0, "seen": []}

    def forward(self, inputs: Tensor) -> Tensor:
        self.running = self.running * 0.5 + inputs.mean(0)
        self.calls["num"] += 1  # type: ignore[operator]
        self.calls["seen"].append(1)  # type: ignore[union-attr]
        self.cache = inputs
        return (inputs * self.weight).sum(1)


def test_what_is_replaced_and_what_is_added_is_put_back_too() -> None:
    model = Rebinds()
    running, calls = model.running, model.calls
    with restored(model):
        model(torch.ones(3, 2))
        model.weight = nn.Parameter(torch.zeros(2))
        model.eval()
    assert model.running is running and torch.equal(running, torch.zeros(2))
    assert model.calls is calls and calls == {"num": 0, "seen": []}
    assert torch.equal(model.weight, torch.ones(2)) and model.weight.grad is None
    assert model.training and not hasattr(model, "cache")
    assert list(dict(model.named_parameters())) == ["weight"]


def test_a_buffer_with_several_numbers_at_one_place_is_put_back() -> None:
    model = torch.nn.Linear(2, 2)
    model.register_buffer("scale", torch.ones(3, 1).expand(3, 4))
    weight = model.weight.detach().clone()
    with restored(model), torch.no_grad():
        model.weight.fill_(7)
        model.scale[:, :1].fill_(7)
    assert torch.equal(model.weight, weight)
    assert torch.equal(model.scale, torch.ones(3, 4))


def test_an_optimizer_with_lists_in_its_state_and_a_scaler_are_put_back() -> None:
    def trained(*, tried: bool) -> list[Tensor]:
        model = nn.Linear(6, 1)
        nn.init.constant_(model.weight, 0.3)
        nn.init.zeros_(model.bias)
        optimizer = LBFGS(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)
        inputs = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))

        def update() -> None:
            def closure() -> Tensor:
                optimizer.zero_grad()
                loss = (model(inputs) - 1).pow(2).mean() + (model(inputs) ** 4).mean()
                loss.backward()
                return loss

            optimizer.step(closure)
            scaler.scale(torch.ones(1))
            scaler._found_inf_per_device(optimizer)  # type: ignore[operator]

        for step in range(4):
            update()
            if tried and step == 1:
                with restored(model, optimizer, scaler):
                    update()
        return [*model.parameters(), torch.tensor(scaler.get_scale())]

    assert all(torch.equal(a, b) for a, b in zip(trained(tried=True), trained(tried=False), strict=True))


def test_groups_keep_their_proportion_and_a_tensor_rate_stays_the_tensor() -> None:
    model = make_model()
    rate = torch.tensor(0.02)
    groups = [{"params": [*model[:2].parameters()], "lr": rate}, {"params": [*model[2:].parameters()], "lr": 0.005}]  # type: ignore[index]
    optimizer = SGD(groups)
    made: list[tuple[float, float]] = []
    update = make_update(model, optimizer)

    def watched(batch: Batch) -> Tensor:
        assert optimizer.param_groups[0]["lr"] is rate
        made.append((float(rate), float(optimizer.param_groups[1]["lr"])))
        return update(batch)

    found = range_test(watched, loader("global"), model, optimizer, start=1e-4, end=1e-2, num_steps=21, seeds=(0,))
    assert [first for first, _ in made] == pytest.approx(found.rates.rates())
    assert [second for _, second in made] == pytest.approx([lr / 4 for lr in found.rates.rates()])
    assert optimizer.param_groups[0]["lr"] is rate
    assert (float(rate), optimizer.param_groups[1]["lr"]) == (pytest.approx(0.02), 0.005)


def test_the_same_seeds_give_the_same_numbers() -> None:
    model = make_model()
    optimizer = SGD(model.parameters(), lr=0.1)
    update = make_update(model, optimizer)
    first, second = (
        range_test(update, loader("own generator"), model, optimizer, num_steps=30, seeds=(4, 5)) for _ in range(2)
    )
    assert first == second


def test_a_quadratic_diverges_where_it_must() -> None:
    # f = c x^2 / 2 with SGD: x shrinks for lr < 2 / c and grows beyond
    weight = nn.Linear(1, 1, bias=False)
    optimizer = SGD(weight.parameters(), lr=1.0)

    def update(_: int) -> Tensor:
        loss = 50 * weight.weight.square().sum()  # c = 100
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    found = range_test(update, [0], weight, optimizer, start=1e-5, end=10.0, num_steps=300, seeds=(0,))
    (sweep,) = found.sweeps
    assert sweep.diverged_at is not None and 2e-2 < sweep.diverged_at < 0.2
    assert len(sweep.losses) < 250
    # least between 1 / c, where x is 0 at once, and 2 / c
    assert found.suggestion is not None and 1e-3 < found.suggestion < 2e-3


REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "start above end": (lambda: {"start": 1.0, "end": 0.1}, "needs 0 < start < end"),
    "too few updates": (lambda: {"num_steps": 5}, "at least 20 updates, got 5"),
    "no seeds": (lambda: {"seeds": ()}, "seeds must be different whole numbers"),
    "a seed twice": (lambda: {"seeds": (1, 1)}, "seeds must be different whole numbers"),
    "an iterator": (lambda: {"batches": iter(loader("global"))}, "batches is an iterator, which would be used up"),
    "nothing": (lambda: {"batches": []}, "batches is empty"),
    "evaluation mode": (
        lambda: {"model": make_model().eval()},
        r"must be in training mode. Call model.train\(\) first",
    ),
    "no shape": (lambda: {"model": nn.LazyLinear(2)}, "has no shape yet. Run the model on one batch first"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_tested_is_refused_before_any_update(name: str) -> None:
    make, message = REFUSED[name]
    model = make_model()
    optimizer = SGD(model.parameters(), lr=0.1)

    def update(batch: Batch) -> Tensor:
        raise AssertionError("no update may be made")

    arguments: dict[str, Any] = {"batches": loader("global"), "model": model, "optimizer": optimizer, **make()}
    with pytest.raises(ValueError, match=message):
        range_test(update, **arguments)


def test_rates_that_are_all_zero_are_refused() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="are all 0, so they cannot be scaled"):
        range_test(lambda batch: torch.ones(()), [1], model, SGD(model.parameters(), lr=0.0))


def test_a_scheduler_in_the_update_is_refused_and_all_is_put_back() -> None:
    model = make_model()
    optimizer = SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    update = make_update(model, optimizer)
    before = copy.deepcopy(model.state_dict())

    def stepped(batch: Batch) -> Tensor:
        loss = update(batch)
        scheduler.step()
        return loss

    with pytest.raises(RuntimeError, match="update changed the rate"):
        range_test(stepped, loader("global"), model, optimizer)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_workers_that_live_on_are_refused_once_they_are_at_work() -> None:
    data = TensorDataset(torch.randn(16, 6), torch.zeros(16, dtype=torch.int64))
    batches = DataLoader(data, batch_size=8, num_workers=1, persistent_workers=True)
    next(iter(batches))
    model = make_model()
    with pytest.raises(ValueError, match="persistent workers have started"):
        range_test(lambda batch: torch.ones(()), batches, model, SGD(model.parameters(), lr=0.1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_random_state_of_a_gpu_is_as_it_was() -> None:
    torch.cuda.manual_seed(3)
    expected = torch.rand(4, device="cuda")
    torch.cuda.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 2)).cuda()
    optimizer = Adam(model.parameters(), lr=0.01)
    torch.cuda.manual_seed(3)
    update = make_update(model, optimizer)
    before = copy.deepcopy(model.state_dict())
    range_test(
        lambda batch: update((batch[0].cuda(), batch[1].cuda())), loader("global"), model, optimizer, num_steps=20
    )
    assert torch.equal(torch.rand(4, device="cuda"), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
