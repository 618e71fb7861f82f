"""In a loop of plain PyTorch: GradScaler, accumulation and clipping, all at once."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer

from hand_written import RULES, Batch, Classifier, rates, updates
from lrlab.schedulers import SignalScheduler, SlopeLR

ACCUMULATE = 3
SKIPPED = (4, 5, 11)
"""Updates, from 0, whose gradient has an infinity in it."""


def train_scaled(
    rule: SignalScheduler, model: Classifier, planned: list[list[Batch]], *, skipped: tuple[int, ...]
) -> tuple[list[list[float]], list[list[Tensor]]]:
    """The rates after, and the losses of, each update that was made."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    seen, made = [], []
    for step, update in enumerate(planned):
        losses = []
        for inputs, labels in update:
            loss = F.cross_entropy(model(inputs), labels)
            scaler.scale(loss / len(update)).backward()
            rule.observe(loss)
            losses.append(loss.detach())
        if step in skipped:
            model.head.bias.grad[1] = float("inf")
        scaler.unscale_(rule.optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        scaler.step(rule.optimizer)
        scaler.update()
        rule.optimizer.zero_grad()
        rule.step()
        if step not in skipped:
            seen.append(rates(rule.optimizer))
            made.append(losses)
    return seen, made


@pytest.mark.parametrize("fused", [False, True], ids=["", "fused"])
def test_scaled_accumulated_and_clipped_it_goes_by_the_updates_made(fused: bool) -> None:
    model = Classifier()
    rule = RULES["slope"](SGD(model.parameters(), lr=0.5, fused=fused))
    seen, losses = train_scaled(rule, model, updates(accumulate=ACCUMULATE), skipped=SKIPPED)

    alone = RULES["slope"](SGD(Classifier().parameters(), lr=0.5))
    expected = []
    for made in losses:
        alone.optimizer.step()
        alone.step(torch.stack(made).mean())
        expected.append(rates(alone.optimizer))
    assert seen == expected
    assert rule.take_decisions() == alone.take_decisions()
    assert len(seen) == len(updates(accumulate=ACCUMULATE)) - len(SKIPPED)
    assert len({row[0] for row in seen}) > 2  # or it would show nothing


@pytest.mark.parametrize("make", [SGD, Adam, AdamW])
def test_a_fused_optimizer_that_left_its_update_out_has_made_none(make: Callable[..., Optimizer]) -> None:
    # GradScaler calls its step() all the same
    weight = torch.nn.Parameter(torch.ones(3))
    rule = SlopeLR(make([weight], lr=0.1, fused=True))
    scaler = torch.amp.GradScaler("cpu")
    last_epochs: list[Any] = []
    for factor in (1.0, float("inf"), 1.0):
        scaler.scale((weight * factor).sum()).backward()
        rule.observe(1.0)
        scaler.step(rule.optimizer)
        scaler.update()
        rule.step()
        rule.optimizer.zero_grad()
        last_epochs.append(rule.last_epoch)
    assert last_epochs == [1, 1, 2]
    assert bool(torch.isfinite(weight).all())
