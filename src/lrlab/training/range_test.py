"""A learning-rate range test in a loop of one's own, after which all is as it was before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from lrlab.training.restore import restored, seed_all
from lrlab.training.sweep import RangeTest, RateRange, Sweep, SweepRecorder

BatchT = TypeVar("BatchT")


def range_test(
    update: Callable[[BatchT], Tensor],
    batches: Iterable[BatchT],
    model: nn.Module,
    optimizer: Optimizer,
    *,
    start: float = 1e-6,
    end: float = 10.0,
    num_steps: int = 200,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    others: Sequence[object] = (),
) -> RangeTest:
    """Raise the rate from update to update and see where the loss is least; once for each seed, from the same weights.

        def update(batch):
            images, labels = batch
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        found = range_test(update, loader, model, optimizer)
        found.suggestion, found.suggestions  # 3.1e-4, [2.2e-4, 3.0e-4, 3.1e-4, 3.4e-4, 3.8e-4]

    Afterwards the model, the optimizer, the loader and all random states are as they were (see `restored`), so
    that training goes on bit for bit as if nothing had been tried; also if `update` raises. A seed decides all that is
    drawn: dropout, the order of a loader that shuffles. The weights are the model's own in each sweep; `lrlab lr-find`
    draws these too.

    The rate is the largest of the optimizer's groups; the others keep their proportion to it. What it suggests, and
    when nothing, `lrlab.training.sweep.suggest` says; `lrlab.report.write_range_test` draws it.

    Args:
        update: makes one optimizer update from a batch and returns its loss: the body of a loop, without the step of a
            scheduler.
        batches: a loader, or anything that can be gone through from its beginning more than once.
        model: in training mode.
        optimizer: its own rates matter by their proportion alone.
        start: first rate, > 0.
        end: last rate, > start.
        num_steps: updates of a sweep, >= 20; 200 are enough where the loss of a batch scatters by a tenth.
        seeds: of the sweeps, each in [0, 2**32).
        others: what else `update` changes, such as a GradScaler.
    Raises: ValueError for what cannot be swept, before the first update; RuntimeError if `update` moves the rate.
    Source: Smith, 2017, arXiv:1506.01186, section 3.3; its line of rates is a geometric one here.
    """
    rates = RateRange(start, end, num_steps)
    _check(batches, model, optimizer, seeds)
    sweeps = []
    for seed in seeds:
        with restored(model, optimizer, *others, loader=batches):
            seed_all(seed, loader=batches)
            sweeps.append(_sweep(update, batches, optimizer, rates, seed=seed))
    return RangeTest(rates, tuple(sweeps))


def _check(batches: Iterable[Any], model: nn.Module, optimizer: Optimizer, seeds: Sequence[int]) -> None:
    if not seeds or not all(0 <= seed < 2**32 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"range_test: seeds must be different whole numbers in [0, 2**32), got {list(seeds)}.")
    if not model.training:
        raise ValueError("range_test: the model must be in training mode. Call model.train() first.")
    if not any(float(group["lr"]) > 0 for group in optimizer.param_groups):
        raise ValueError("range_test: the rates of the optimizer's groups are all 0, so they cannot be scaled.")
    if isinstance(batches, Iterator):
        raise ValueError("range_test: batches is an iterator, which would be used up. Pass the loader itself.")
    if getattr(batches, "persistent_workers", False) and getattr(batches, "_iterator", None) is not None:
        raise ValueError(
            "range_test: the loader's persistent workers have started, and their random states cannot be restored. "
            "Pass a new loader over the same data set."
        )


def _sweep(
    update: Callable[[BatchT], Tensor], batches: Iterable[BatchT], optimizer: Optimizer, rates: RateRange, *, seed: int
) -> Sweep:
    groups = optimizer.param_groups
    before = [float(group["lr"]) for group in groups]
    recorder = SweepRecorder(rates, seed=seed)
    for lr, batch in zip(rates.rates(), _forever(batches), strict=False):
        for group, own in zip(groups, before, strict=True):
            _set_rate(group, lr * own / max(before))
        expected = [float(group["lr"]) for group in groups]  # what float32 makes of it, where a rate is a tensor
        loss = update(batch)
        if [float(group["lr"]) for group in groups] != expected:
            raise RuntimeError("range_test: update changed the rate. Do not step a scheduler in it.")
        if recorder.add(loss):
            break
    return recorder.sweep()


def _set_rate(group: dict[str, Any], lr: float) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)  # a graph or a compiled step holds this very tensor
    else:
        group["lr"] = lr


def _forever(batches: Iterable[BatchT]) -> Iterator[BatchT]:
    while True:
        is_empty = True
        for batch in batches:
            is_empty = False
            yield batch
        if is_empty:
            raise ValueError("range_test: batches is empty.")
