"""In a loop with Accelerate, whose scheduler calls step() once for each process."""

import warnings

import pytest
import torch
from torch.nn import functional as F

from hand_written import RULES, Classifier, assert_same_decisions, loader, make_optimizer, rates, train, updates

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
    prepared, optimizer, batches, scheduler = accelerator.prepare(model, rule.optimizer, loader(), rule)
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
        for inputs, labels in batches:
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


def alone_model(rule: object) -> Classifier:
    """A classifier whose parameters are those that the rule's optimizer steps."""
    model = Classifier()
    optimizer = rule.optimizer  # type: ignore[attr-defined]
    with torch.no_grad():
        for name, group in zip(("stem", "head"), optimizer.param_groups, strict=True):
            module = getattr(model, name)
            module.weight, module.bias = group["params"]
    return model
