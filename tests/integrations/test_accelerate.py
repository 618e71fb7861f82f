"""In a loop with Accelerate, whose scheduler calls step() once for each process."""

import copy
import warnings

import pytest
import torch
from torch.nn import functional as F

from hand_written import (
    RULES,
    Classifier,
    assert_same_decisions,
    batches,
    loader,
    make_optimizer,
    rates,
    train,
    updates,
)
from lrlab.probes import UpdateRatioProbe
from lrlab.schedulers import SlopeLR
from lrlab.training import range_test

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("accelerate", reason="accelerate is not installed: pip install lrlab[transformers]")
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

NUM_EPOCHS = 10

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def forget_what_accelerate_keeps() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.mark.parametrize("num_processes", [1, 4])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("name", RULES)
def test_the_rates_are_those_of_a_loop_by_hand(
    name: str, accumulate: int, num_processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    model = Classifier()
    rule = RULES[name](make_optimizer(model))
    prepared, optimizer, parts, scheduler = accelerator.prepare(model, rule.optimizer, loader(), rule)
    num_calls, step = 0, rule.step

    def counted() -> None:
        nonlocal num_calls
        num_calls += 1
        step()

    monkeypatch.setattr(rule, "step", counted)
    # what Accelerate's scheduler asks for the number of its calls; the processes themselves are in test_ddp.py
    monkeypatch.setitem(PartialState._shared_state, "num_processes", num_processes)
    seen = []
    for _ in range(NUM_EPOCHS):
        for inputs, labels in parts:
            with accelerator.accumulate(prepared):
                loss = F.cross_entropy(prepared(inputs), labels)
                accelerator.backward(loss)
                rule.observe(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                seen.append(rates(rule.optimizer))

    alone = RULES[name](make_optimizer(Classifier()))
    expected = train(
        alone, alone_model(alone), updates(accumulate=accumulate, num_epochs=NUM_EPOCHS), divisor=accumulate
    )
    assert num_calls == num_processes * len(expected)
    assert seen == [pytest.approx(row, rel=1e-4) for row in expected]
    assert_same_decisions(rule.take_decisions(), alone.take_decisions())


def test_made_of_what_prepare_returned_a_rule_sees_the_updates() -> None:
    model = Classifier()
    optimizer = Accelerator(cpu=True).prepare(make_optimizer(model))
    rule = RULES["slope"](optimizer)
    expected = train(RULES["slope"](make_optimizer(alone := Classifier())), alone, updates(accumulate=1))
    assert train(rule, model, updates(accumulate=1)) == expected

    probe = UpdateRatioProbe({"stem": list(model.stem.parameters())}, optimizer)
    model(batches()[0][0]).sum().backward()
    probe.observe()
    optimizer.step()
    assert list(probe.take_rows()) == [1]


def test_a_range_test_leaves_a_prepared_optimizer_as_it_was() -> None:
    plain = Classifier()
    model, optimizer = Accelerator(cpu=True).prepare(plain, torch.optim.Adam(plain.parameters(), lr=0.01))
    rule = SlopeLR(optimizer, window=20)

    def update(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        loss = F.cross_entropy(model(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    update(batches()[0])
    rule.step(1.0)
    before = copy.deepcopy(optimizer.state_dict())
    range_test(update, loader(), model, optimizer, num_steps=20, seeds=(0,))
    assert optimizer.state_dict()["param_groups"] == before["param_groups"]
    for number, state in before["state"].items():
        assert all(torch.equal(optimizer.state_dict()["state"][number][name], value) for name, value in state.items())
    update(batches()[1])
    rule.step(1.0)  # which would say so, if it had counted those of the sweep
    assert rule.last_epoch == 2


def test_the_loss_of_an_update_that_was_skipped_is_forgotten_where_the_rule_is_told_so() -> None:
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    model = Classifier()
    rule = SlopeLR(make_optimizer(model), window=10, check_every=1)
    prepared, optimizer, prepared_batches, scheduler = accelerator.prepare(model, rule.optimizer, loader(), rule)
    for step, (inputs, labels) in enumerate(prepared_batches):
        loss = F.cross_entropy(prepared(inputs), labels)
        accelerator.backward(loss)
        rule.observe(100.0 if step == 3 else 1.0)
        if step == 3:
            model.head.bias.grad[0] = float("inf")
        optimizer.step()
        scheduler.step()
        if optimizer.step_was_skipped:
            rule.step()
        optimizer.zero_grad()
    assert rule.state_dict()["_window"].tolist() == [1.0] * 9


def alone_model(rule: object) -> Classifier:
    """A classifier whose parameters are those that the rule's optimizer steps."""
    model = Classifier()
    optimizer = rule.optimizer  # type: ignore[attr-defined]
    with torch.no_grad():
        for name, group in zip(("stem", "head"), optimizer.param_groups, strict=True):
            module = getattr(model, name)
            module.weight, module.bias = group["params"]
    return model
