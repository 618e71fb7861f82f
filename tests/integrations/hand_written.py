"""The loop that those of the libraries are held against, and the small training that all of them run."""

import itertools
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from torch.utils.data import DataLoader, TensorDataset

from lrlab.schedulers import Decision, LayerwiseLR, PhasesLR, SignalScheduler, SlopeLR, WeakGradients

BATCH_SIZE = 4
NUM_BATCHES = 10
NUM_EPOCHS = 5

Batch = tuple[Tensor, Tensor]


def slope(optimizer: Optimizer) -> SlopeLR:
    """A rule that looks often, decays often, and says the mean loss of its window."""
    return SlopeLR(optimizer, window=12, check_every=3, level=0.49, min_progress=0.8, forget=3, factor=0.7)


def layerwise(optimizer: Optimizer) -> LayerwiseLR:
    """Rates per layer that are wrong where `observe` is called before the gradient is there; and phases within."""
    weak = WeakGradients(every=1, memory=0.5)
    return LayerwiseLR(PhasesLR(slope(optimizer), warmup_steps=3), {"stem": weak, "head": weak})


RULES: dict[str, Callable[[Optimizer], SignalScheduler]] = {"slope": slope, "layerwise": layerwise}


class Classifier(nn.Module):
    """Two layers, the same at each call."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.stem = nn.Linear(6, 8)
            self.head = nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stem(inputs).tanh())
        return logits


def examples() -> Batch:
    """Inputs and noisy labels of one epoch, in order."""
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(BATCH_SIZE * NUM_BATCHES, 6, generator=generator)
    noise = torch.randn(len(inputs), 3, generator=generator)
    return inputs, (inputs[:, :3] + noise).argmax(1)


def batches() -> list[Batch]:
    """The batches of one epoch, in order."""
    inputs, labels = examples()
    return list(zip(inputs.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True))


def loader() -> DataLoader[tuple[Tensor, ...]]:
    """The same batches, as a library wants them."""
    return DataLoader(TensorDataset(*examples()), batch_size=BATCH_SIZE)


def make_optimizer(model: Classifier) -> SGD:
    """SGD over named groups."""
    groups = [{"params": list(getattr(model, name).parameters()), "name": name} for name in ("stem", "head")]
    return SGD(groups, lr=0.5, momentum=0.9)


def updates(*, accumulate: int, num_epochs: int = NUM_EPOCHS) -> list[list[Batch]]:
    """The batches of each update: `accumulate` of them, fewer in the last of an epoch if they do not come out even."""
    epoch = batches()
    chunks = [epoch[begin : begin + accumulate] for begin in range(0, len(epoch), accumulate)]
    return chunks * num_epochs


def train(
    rule: SignalScheduler, model: Classifier, planned: Sequence[list[Batch]], *, divisor: int | None = None
) -> list[list[float]]:
    """The rates after each update; gradients are divided by `divisor`, by the number of batches where it is None."""
    seen = []
    for update in planned:
        for inputs, labels in update:
            loss = F.cross_entropy(model(inputs), labels)
            (loss / (divisor or len(update))).backward()
            rule.observe(loss)
        rule.optimizer.step()
        rule.optimizer.zero_grad()
        rule.step()
        seen.append(rates(rule.optimizer))
    return seen


def rates(optimizer: Optimizer) -> list[float]:
    """The rate of each group, now."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def assert_same_decisions(got: list[Decision], expected: list[Decision]) -> None:
    """Decided alike, from the same evidence: to 1e-4, since the libraries divide losses in float32 and add them up."""
    assert [look["decision"] for look in got] == [look["decision"] for look in expected]
    assert [numbers(look) for look in got] == [pytest.approx(numbers(look), rel=1e-4, abs=1e-6) for look in expected]
    assert {look["decision"] for look in expected} == {"keep", "decay"}, "or it would show nothing"


def numbers(decision: Decision) -> list[float]:
    """What was measured, in order, with the rates before and after."""
    lists = [value if isinstance(value, list) else [value] for value in decision.values()]
    return [float(value) for value in itertools.chain(*lists) if isinstance(value, int | float)]
