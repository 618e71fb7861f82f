"""The noise scale: its definition, that it is unbiased with batch normalisation, and that nothing notices."""

import copy
import io
import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from lrlab.models import layer_groups, resnet18
from lrlab.probes import DeadReluProbe, NoiseScaleProbe, OutputGradientProbe

Draw = Callable[[int], tuple[Tensor, Tensor]]


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def batch(step: int, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(34, 1, 16, 16, generator=generator, dtype=torch.float64).to(dtype)
    return images, torch.randint(0, 10, (34,), generator=generator)


def test_it_agrees_with_a_float64_twin() -> None:
    torch.manual_seed(0)
    model = resnet18(num_classes=10, in_channels=1, width=4)
    groups = layer_groups(model)
    probe = NoiseScaleProbe(groups, model, batch, num_parts=4, every=2)
    for step in range(1, 7):
        probe.observe()
        twin = copy.deepcopy(model).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
        if step % 2 == 0:
            found = probe.take_rows()[step]
            expected = by_definition(twin, step, num_parts=4)
            for name, (square, variance) in expected.items():
                size = square + variance / 8  # |g|^2 of a part, of which both are differences
                assert found[f"grad_square/{name}"] == pytest.approx(square, abs=1e-5 * size)
                assert found[f"grad_variance/{name}"] == pytest.approx(variance, rel=1e-5)


def by_definition(model: nn.Module, step: int, *, num_parts: int) -> dict[str, tuple[float, float]]:
    """McCandlish et al., A.1, with the batch of all parts as the big one and one part as the small one."""
    images, labels = batch(step, dtype=torch.float64)
    size = len(labels) // num_parts
    gradients: dict[str, list[Tensor]] = {}
    groups = layer_groups(model)
    for part in range(num_parts):
        rows = slice(part * size, (part + 1) * size)
        model.zero_grad()
        F.cross_entropy(model(images[rows]), labels[rows]).backward()
        for name, group in {**groups, "whole": list(model.parameters())}.items():
            gradients.setdefault(name, []).append(flat([p.grad for p in group if p.grad is not None]))
    small, big = size, size * num_parts
    found = {}
    for name, parts in gradients.items():
        of_small = torch.stack(parts).square().sum(1).mean()
        of_big = torch.stack(parts).mean(0).square().sum()
        square = (big * of_big - small * of_small) / (big - small)
        variance = (of_small - of_big) / (1 / small - 1 / big)
        found[name] = square.item(), variance.item()
    return found


def test_with_batch_normalisation_it_is_unbiased_for_the_batches_it_cuts() -> None:
    """Over all the batches that can be drawn the estimates are, on average, exactly what they estimate."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2)).double()
    images, labels = torch.randn(4, 2).double(), torch.tensor([0, 1, 1, 0])
    parts = [pair for pair in itertools.product(range(4), repeat=2) if pair[0] != pair[1]]  # micro-batches of two
    gradients = []
    for pair in parts:
        loss = F.cross_entropy(model(images[list(pair)]), labels[list(pair)])
        gradients.append(flat(list(torch.autograd.grad(loss, list(model.parameters())))))
    mean = torch.stack(gradients).mean(0)
    variance = (torch.stack(gradients) - mean).square().sum(1).mean()
    draws = [one + other for one, other in itertools.product(parts, repeat=2)]

    def draw(step: int) -> tuple[Tensor, Tensor]:
        return images[list(draws[step - 1])], labels[list(draws[step - 1])]

    probe = NoiseScaleProbe({"all": list(model.parameters())}, model, draw, num_parts=2, every=1)
    for _ in draws:
        probe.observe()
    rows = list(probe.take_rows().values())

    assert len(rows) == 144
    for name in ("all", "whole"):
        assert sum(row[f"grad_square/{name}"] for row in rows) / 144 == pytest.approx(mean.square().sum().item())
        # of one example: a micro-batch of two varies half as much
        assert sum(row[f"grad_variance/{name}"] for row in rows) / 144 == pytest.approx(2 * variance.item())


def test_the_scale_is_the_quotient_of_means_in_which_the_older_counts_less() -> None:
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    model = nn.Module()
    model.weight = weight
    model.forward = lambda images: images * weight  # type: ignore[method-assign]
    values = [[2.0, 4.0], [1.0, 3.0], [-5.0, 5.0], [-50.0, 50.0]]  # gradients of the two parts
    probe = NoiseScaleProbe(
        {"all": [weight]},
        model,
        lambda step: (torch.tensor(values[step - 1], dtype=torch.float64), torch.zeros(2)),
        criterion=lambda outputs, labels: outputs.mean(),
        num_parts=2,
        every=1,
    )
    for _ in values:
        probe.observe()
    rows = list(probe.take_rows().values())

    squares = [row["grad_square/all"] for row in rows]
    variances = [row["grad_variance/all"] for row in rows]
    assert squares == pytest.approx([2 * 9 - 10, 2 * 4 - 5, -25, -2500])
    assert variances == pytest.approx([2 * (10 - 9), 2 * (5 - 4), 50, 5000])
    scales = [row["noise_scale/all"] for row in rows]
    assert scales[:2] == pytest.approx([2 / 8, (0.9 * 2 + 2) / (0.9 * 8 + 3)])
    assert scales[3] != scales[3]  # the gradient is lost in the noise


def trained(*, with_probe: bool) -> tuple[dict[str, Tensor], Tensor, list[dict[str, float]]]:
    torch.manual_seed(0)
    model = nn.Sequential(resnet18(num_classes=10, in_channels=1, width=4), nn.Dropout(0.1))
    groups = layer_groups(model[0])
    others = [
        DeadReluProbe(dict(model[0].named_children()), every=1),
        OutputGradientProbe(dict(model[0].named_children()), every=1),
    ]
    probes = [NoiseScaleProbe(groups, model, batch, num_parts=3, every=2)] if with_probe else []
    optimizer = Adam(model.parameters())
    torch.manual_seed(1)
    rows: list[dict[str, float]] = []
    for step in range(1, 101):
        images, labels = batch(step)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        for probe in (*probes, *others):
            probe.observe()
        optimizer.step()
        rows.append({name: value for other in others for name, value in other.take_rows()[step].items()})
    return model.state_dict(), torch.get_rng_state(), rows


def test_after_100_updates_neither_weights_nor_statistics_nor_streams_nor_other_probes_have_noticed() -> None:
    (with_probe, stream, rows), (without, other_stream, other_rows) = (
        trained(with_probe=True),
        trained(with_probe=False),
    )

    assert all(torch.equal(with_probe[name], without[name]) for name in without)
    assert torch.equal(stream, other_stream)
    assert rows == other_rows


def test_saved_and_loaded_it_measures_what_it_would_have_measured() -> None:
    torch.manual_seed(0)
    model = resnet18(num_classes=10, in_channels=1, width=4)
    probe, stopped = (NoiseScaleProbe(layer_groups(model), model, batch, every=2) for _ in range(2))
    for step in range(1, 10):
        probe.observe()
        stopped.observe()
        if step in (3, 6):
            buffer = io.BytesIO()
            torch.save(stopped.state_dict(), buffer)
            buffer.seek(0)
            stopped = NoiseScaleProbe(layer_groups(model), model, batch, every=2)
            stopped.load_state_dict(torch.load(buffer, weights_only=True))
    rows = probe.take_rows()
    assert list(rows) == [2, 4, 6, 8]
    assert repr(stopped.take_rows()) == repr(rows)  # in which a nan is one


class Noisy(nn.Module):
    """Says what it draws."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drawn = nn.Linear(256, 10), list[float]()

    def forward(self, images: Tensor) -> Tensor:
        self.drawn.append(torch.rand(()).item())
        logits: Tensor = self.linear(images.flatten(1))
        return logits


def test_parts_draw_noise_of_their_own_and_the_stream_is_as_before() -> None:
    model = Noisy()
    probe = NoiseScaleProbe({"linear": list(model.parameters())}, model, batch, num_parts=4, every=1)
    before = torch.get_rng_state()
    probe.observe()
    assert len(set(model.drawn)) == 4
    assert torch.equal(torch.get_rng_state(), before)


def test_a_measurement_that_is_not_finite_is_left_out_of_the_mean() -> None:
    model = Noisy()

    def some(step: int) -> tuple[Tensor, Tensor]:
        images, labels = batch(step)
        return images * (torch.nan if step == 2 else 1.0), labels

    def scales(every: tuple[int, ...]) -> list[float]:
        probe = NoiseScaleProbe({"linear": list(model.parameters())}, model, some, num_parts=4, every=1)
        for _ in range(max(every)):
            probe.observe()
        return [row["noise_scale/linear"] for step, row in probe.take_rows().items() if step in every]

    first, third = scales((1, 3))
    assert math.isfinite(first) and math.isfinite(third) and first != third


def test_under_autocast_it_measures_in_full_precision() -> None:
    def measured(enabled: bool) -> dict[str, float]:
        model = nn.Linear(8, 3)
        nn.init.constant_(model.weight, 0.1)
        nn.init.zeros_(model.bias)
        probe = NoiseScaleProbe({"all": list(model.parameters())}, model, noisy, num_parts=4, every=1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            probe.observe()
        return probe.take_rows()[1]

    def noisy(step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        return torch.randn(32, 8, generator=generator), torch.randint(0, 3, (32,), generator=generator)

    for quantity in ("grad_square/all", "grad_variance/all"):
        assert measured(True)[quantity] == measured(False)[quantity]


def test_a_parameter_that_was_frozen_since_has_no_gradient() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 3))
    groups = {name: list(module.parameters()) for name, module in model.named_children()}
    batch = torch.randn(32, 8), torch.randint(0, 3, (32,))
    probe = NoiseScaleProbe(groups, model, lambda step: batch, num_parts=4, every=1)
    model[0].requires_grad_(False)
    probe.observe()
    row = probe.take_rows()[1]
    assert row["grad_variance/0"] == 0.0 < row["grad_variance/1"]


def test_what_has_no_parts_is_refused() -> None:
    model = nn.Linear(2, 2)
    groups = {"all": list(model.parameters())}
    with pytest.raises(ValueError, match="num_parts must be >= 2, got 1"):
        NoiseScaleProbe(groups, model, batch, num_parts=1)
    with pytest.raises(ValueError, match="no group may be named 'whole'"):
        NoiseScaleProbe({"whole": groups["all"]}, model, batch)
    probe = NoiseScaleProbe(groups, model, lambda step: (torch.ones(3, 2), torch.zeros(3, dtype=torch.int64)), every=1)
    with pytest.raises(ValueError, match="a batch of 3 cannot be cut into 8 parts"):
        probe.observe()


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("changed_by", ["hook", "pre-hook"])
def test_hooks_that_are_part_of_the_model_are_part_of_what_is_measured(changed_by: str) -> None:
    def make() -> nn.Sequential:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 10)).double()
        if changed_by == "hook":
            model[2].register_forward_hook(lambda module, args, output: 0.5 * output)
        else:
            nn.utils.weight_norm(model[1])
        return model

    model, twin = make(), make()
    probe = NoiseScaleProbe(
        layer_groups(model), model, lambda step: batch(step, dtype=torch.float64), num_parts=4, every=1
    )
    for _ in range(2):
        F.cross_entropy(model(batch(1, dtype=torch.float64)[0]), batch(1)[1]).backward()
        probe.observe()
    found = probe.take_rows()[1]
    for name, (_, variance) in by_definition(twin, 1, num_parts=4).items():
        assert found[f"grad_variance/{name}"] == pytest.approx(variance)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # torch's own
@pytest.mark.parametrize("has_hook", [True, False])
def test_of_a_compiled_model_it_changes_nothing_and_other_probes_go_on(*, has_hook: bool) -> None:
    def trained(*, is_watched: bool) -> tuple[Tensor, int]:
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 10))
        if has_hook:
            model[2].register_forward_hook(lambda module, args, output: 0.5 * output)
        compiled = torch.compile(model, backend="eager")
        dead = DeadReluProbe({"all": model}, every=2)
        noise = [NoiseScaleProbe(layer_groups(model), compiled, batch, num_parts=4, every=3)] if is_watched else []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(1, 9):
            images, labels = batch(step)
            optimizer.zero_grad()
            F.cross_entropy(compiled(images), labels).backward()
            for probe in (dead, *noise):
                probe.observe()
            optimizer.step()
        assert [len(probe.take_rows()) for probe in noise] == [2] * is_watched
        return flat(list(model.parameters())), len(dead.take_rows())

    watched, num_watched = trained(is_watched=True)
    alone, num_alone = trained(is_watched=False)
    assert torch.equal(watched, alone) and num_watched == num_alone == 4
