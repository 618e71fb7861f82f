"""Probes of weights, updates, successive gradients and moments: slow float64 twins, and that they change nothing."""

import copy
import io
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.utils.checkpoint import checkpoint

from lrlab.models import layer_groups, resnet18
from lrlab.probes import (
    AdamSnrProbe,
    DeadReluProbe,
    GradientCosineProbe,
    GradientProbe,
    Probe,
    UpdateRatioProbe,
    WeightNormProbe,
)

NAMES = ["stem", "layer1", "layer2", "layer3", "layer4", "linear"]


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(resnet18(num_classes=10, in_channels=1, width=4), nn.Dropout(0.1))


def groups_of(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    return layer_groups(model[0])


def backward(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(8, 1, 8, 8, generator=generator)
    labels = torch.randint(0, 10, (8,), generator=generator)
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def mean(values: list[Tensor], beta: float) -> Tensor:
    """Mean with weights that fall by beta from the newest to the oldest: a moment with its bias corrected."""
    weights = torch.tensor([beta**age for age in range(len(values))][::-1], dtype=torch.float64)
    return torch.stack(values).T @ (weights / weights.sum())


def make_probes(model: nn.Module, optimizer: Optimizer, *, every: int) -> list[Probe]:
    groups = groups_of(model)
    return [
        WeightNormProbe(groups, every=every),
        UpdateRatioProbe(groups, optimizer, every=every),
        GradientCosineProbe(groups, every=every),
        DeadReluProbe(dict(model[0].named_children()), every=every),
        AdamSnrProbe(groups, optimizer, every=every),
    ]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("make", [Adam, AdamW], ids=["adam", "adamw"])
def test_each_agrees_with_a_float64_twin(make: type[Adam], memory_format: torch.memory_format) -> None:
    model = small_model().to(memory_format=memory_format)
    optimizer = make(model.parameters(), lr=1e-2, betas=(0.8, 0.95), weight_decay=0.1)
    probes = make_probes(model, optimizer, every=1)
    groups = groups_of(model)
    last: dict[str, Tensor] = {}
    rectified: dict[str, list[Tensor]] = {}
    for name in NAMES[:-1]:
        for relu in [one for one in model[0].get_submodule(name).modules() if isinstance(one, nn.ReLU)]:
            relu.register_forward_hook(lambda *a, name=name: rectified.setdefault(name, []).append(a[2].clone()))
    history: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    moments: dict[str, tuple[Tensor, Tensor]] = {}
    expected: dict[int, dict[str, float]] = {}
    for step in range(1, 6):
        rectified.clear()
        backward(model, step)
        row = expected[step] = {}
        for name, outputs in rectified.items():
            units = [channel for output in outputs for channel in output.transpose(0, 1)]
            row[f"dead_relu/{name}"] = sum(not channel.any() for channel in units) / len(units)
        before = {name: flat(groups[name]) for name in NAMES}
        gradients = {name: flat([p.grad for p in groups[name]]) for name in NAMES}
        for name in NAMES:
            row[f"weight_l2/{name}"] = before[name].square().sum().sqrt().item()
            row[f"weight_rms/{name}"] = before[name].square().mean().sqrt().item()
            if step > 1:
                cosine = gradients[name] @ last[name] / gradients[name].norm() / last[name].norm()
                row[f"grad_cosine/{name}"] = cosine.item()
                held = [optimizer.state[parameter] for parameter in groups[name]]
                first = flat([state["exp_avg"] for state in held]) / (1 - 0.8 ** (step - 1))
                second = flat([state["exp_avg_sq"] for state in held]) / (1 - 0.95 ** (step - 1))
                row[f"adam_snr/{name}"] = (first.square().sum() / second.sum()).item()
                # and the optimizer, which counts in float32, holds what the definition says
                for given, by_definition in zip((first, second), moments[name], strict=True):
                    torch.testing.assert_close(given, by_definition, rtol=1e-3, atol=1e-8)
            decayed = gradients[name] + (0.1 * before[name] if make is Adam else 0)
            history[name].append(decayed)
            moments[name] = mean(history[name], 0.8), mean([one.square() for one in history[name]], 0.95)
        last = gradients
        for probe in probes:
            probe.observe()
        optimizer.step()
        for name in NAMES:
            moved = (flat(groups[name]) - before[name]).norm() / before[name].norm()
            row[f"update_ratio/{name}"] = moved.item()

    found: dict[int, dict[str, float]] = {step: {} for step in expected}
    for probe in probes:
        for step, row in probe.take_rows().items():
            found[step] |= row
    for step, row in expected.items():
        assert found[step] == pytest.approx(row, rel=1e-5, abs=1e-7)
        assert found[step].keys() == row.keys()


def test_the_same_gradient_twice_has_cosine_one_and_its_opposite_minus_one() -> None:
    weight = nn.Parameter(torch.zeros(3))
    probe = GradientCosineProbe({"all": [weight]})
    for gradient in ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [-1.0, -2.0, -3.0], [3.0, 0.0, -1.0], [0.0, 0.0, 0.0]):
        weight.grad = torch.tensor(gradient)
        probe.observe()

    values = [row["grad_cosine/all"] for row in probe.take_rows().values()]

    assert values[:3] == pytest.approx([1, -1, 0], abs=1e-6)
    assert values[3] != values[3]  # nan: no direction


def test_moments_of_one_gradient_are_all_signal_and_those_of_noise_none() -> None:
    torch.manual_seed(0)
    steady, noisy = nn.Parameter(torch.zeros(2000)), nn.Parameter(torch.zeros(2000))
    optimizer = Adam([steady, noisy], lr=1e-3)
    probe = AdamSnrProbe({"steady": [steady], "noisy": [noisy]}, optimizer, every=100)
    for _ in range(2000):
        steady.grad, noisy.grad = torch.ones(2000), torch.randn(2000)
        probe.observe()
        optimizer.step()

    last = probe.take_rows()[2000]

    assert last["adam_snr/steady"] == pytest.approx(1, rel=1e-5)
    assert last["adam_snr/noisy"] == pytest.approx(0.1 / 1.9, rel=0.1)


def test_a_unit_that_is_zero_for_the_whole_batch_is_dead() -> None:
    model = nn.ModuleDict({"one": nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU()), "plain": nn.Linear(4, 2)})
    with torch.no_grad():
        model["one"][0].weight.copy_(torch.diag(torch.tensor([1.0, -1.0, 1.0, 0.0])))
    probe = DeadReluProbe(dict(model.named_children()))
    images = torch.tensor([[1.0, 2.0, -1.0, 1.0], [3.0, 1.0, 2.0, 5.0]])  # only the first and the third let one through

    model["plain"](model["one"](images)).sum().backward()
    with torch.no_grad():
        model["one"](-images)  # an evaluation, which is not counted
    probe.observe()
    for part in images:  # two micro-batches are one update
        model["plain"](model["one"](part[None])).sum().backward()
    probe.observe()

    assert probe.columns == ("dead_relu/one",)
    assert [row["dead_relu/one"] for row in probe.take_rows().values()] == [0.5, 0.5]
    with pytest.raises(RuntimeError, match="nothing went through all ReLUs of one"):
        probe.observe()
    with pytest.raises(ValueError, match="none of plain holds an nn.ReLU"):
        DeadReluProbe({"plain": model["plain"]})


class Twice(nn.Module):
    """One ReLU for two layers of different width, as torchvision's blocks have one for three."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.relu = nn.Linear(2, 3), nn.Linear(3, 5), nn.ReLU()
        with torch.no_grad():
            self.one.weight.fill_(1.0)
            self.one.bias.copy_(torch.tensor([-9.0, 1.0, 1.0]))
            self.other.weight.fill_(1.0)
            self.other.bias.copy_(torch.tensor([-99.0, 1.0, -99.0, 1.0, 1.0]))

    def forward(self, values: Tensor) -> Tensor:
        return self.relu(self.other(self.relu(self.one(values))))


def test_a_relu_that_is_called_twice_has_units_of_each_call() -> None:
    model = nn.Sequential(Twice())
    probe = DeadReluProbe({"block": model[0]})
    for _ in range(2):  # a second pass before the update changes nothing
        model(torch.rand(20, 2)).sum().backward()
    probe.observe()
    assert probe.take_rows() == {1: {"dead_relu/block": 0.375}}  # 1 of 3 and 2 of 5


def test_what_is_not_a_number_is_not_dead() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    probe = DeadReluProbe({"all": model})
    model(torch.full((20, 2), float("nan"))).sum().backward()
    probe.observe()
    assert probe.take_rows() == {1: {"dead_relu/all": 0.0}}


def test_a_saved_gradient_does_not_change_afterwards() -> None:
    def measure(size: list[float]) -> None:
        weights.grad = torch.tensor(size)
        probe.observe()

    weights = nn.Parameter(torch.zeros(2))
    probe = GradientCosineProbe({"all": [weights]})
    measure([1.0, 0.0])
    saved = probe.state_dict()
    measure([0.0, 1.0])
    measure([0.0, 1.0])
    for _ in range(2):  # and what was loaded is not the probe's either
        probe.load_state_dict(saved)
        measure([2.0, 1.0])
        measure([0.0, 1.0])
        cosines = [row["grad_cosine/all"] for row in probe.take_rows().values()]
        assert cosines == pytest.approx([2 / 5**0.5, 1 / 5**0.5])


def test_an_update_that_was_not_made_leaves_nothing_for_the_next() -> None:
    model = nn.Linear(2, 1)
    optimizer = SGD(model.parameters(), lr=0.1)
    probe = UpdateRatioProbe({"all": list(model.parameters())}, optimizer, every=2)
    for step in range(1, 5):
        model(torch.ones(1, 2)).sum().backward()
        probe.observe()
        if step != 2:  # GradScaler found an infinity
            optimizer.step()
    assert list(probe.take_rows()) == [4]


def test_adams_moments_are_read_of_an_optimizer_that_counts_in_integers_and_not_of_what_is_frozen() -> None:
    model = nn.ModuleDict({"one": nn.Linear(2, 1), "other": nn.Linear(2, 1)})
    optimizer = Adam(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        sum(layer(torch.ones(1, 2)).sum() for layer in model.values()).backward()
        optimizer.step()
    probe = AdamSnrProbe(layer_groups(model), optimizer)
    probe.observe()
    for state in optimizer.state.values():
        state["step"] = int(state["step"])
    probe.observe()
    first, second = probe.take_rows().values()
    assert first == second == {"adam_snr/one": pytest.approx(1.0), "adam_snr/other": pytest.approx(1.0)}


def test_plain_gradient_descent_moves_by_the_rate_times_the_gradient() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = SGD([weight], lr=0.5)
    probe = UpdateRatioProbe({"all": [weight]}, optimizer, every=2)
    for _ in range(4):
        weight.grad = torch.tensor([0.6, 0.8]) * weight.detach().norm()  # along the weights
        probe.observe()
        optimizer.step()

    assert probe.take_rows() == {
        2: {"update_ratio/all": pytest.approx(0.5)},
        4: {"update_ratio/all": pytest.approx(0.5)},
    }


def test_a_step_that_the_optimizer_does_not_make_is_not_measured() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = SGD([weight], lr=0.5)
    probe = UpdateRatioProbe({"all": [weight]}, optimizer)
    for step in (1, 2, 3):
        weight.grad = torch.ones(2)
        probe.observe()
        if step != 2:
            optimizer.step()

    assert list(probe.take_rows()) == [1, 3]
    probe.detach()
    optimizer.step()
    assert probe.take_rows() == {}


@pytest.mark.parametrize(("fused", "rows"), [(False, [1, 3]), (True, [1, 2, 3])])
def test_an_update_that_grad_scaler_leaves_out_is_not_taken_for_one_of_length_zero(
    fused: bool, rows: list[int]
) -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = Adam([weight], lr=0.1, fused=fused)
    probe = UpdateRatioProbe({"all": [weight]}, optimizer)
    scaler = torch.amp.GradScaler("cpu")
    for factor in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale((weight * factor).sum()).backward()
        scaler.unscale_(optimizer)
        probe.observe()
        scaler.step(optimizer)
        scaler.update()

    found = {step: row["update_ratio/all"] for step, row in probe.take_rows().items()}

    assert list(found) == rows
    assert math.isnan(found.get(2, math.nan))
    assert found[1] == pytest.approx(0.1)  # Adam's first step is the rate, in every number
    assert found[3] == pytest.approx(0.1 / 0.9)


@pytest.mark.parametrize("every", [1, 2])
def test_an_update_that_was_not_made_is_forgotten_as_if_it_had_never_been_tried(every: int) -> None:
    found = []
    for has_skips in (False, True):
        model = small_model()[0]  # without dropout, for which each attempt draws
        optimizer = Adam(model.parameters())
        probes = make_probes(nn.Sequential(model), optimizer, every=every)
        for step in range(1, 7):
            if has_skips and step in (1, 4, 5):
                backward(model, step)
                next(model.parameters()).grad.fill_(math.inf)  # type: ignore[union-attr]
                for probe in probes:
                    probe.observe()
                    probe.forget()
            backward(model, step)
            for probe in probes:
                probe.observe()
            optimizer.step()
        found.append([probe.take_rows() for probe in probes])
        assert {probe.num_updates for probe in probes} == {6}
    for rows, expected, probe in zip(found[1], found[0], probes, strict=True):
        if isinstance(probe, GradientCosineProbe):  # which has given away the gradient before it
            expected = {step: row for step, row in expected.items() if step not in (4, 5)}
        assert rows == expected


def test_a_copy_of_a_probe_and_its_optimizer_measures_its_own_updates() -> None:
    model = small_model()
    optimizer = Adam(model.parameters())
    probe = UpdateRatioProbe(groups_of(model), optimizer)
    for copied in (copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))):
        other, its_optimizer, its_probe = copied((model, optimizer, probe))
        backward(other, 1)
        its_probe.observe()
        its_optimizer.step()
        assert list(its_probe.take_rows()) == [1]
    assert probe.take_rows() == {}


def test_before_backward_there_is_no_gradient_to_compare() -> None:
    probe = GradientCosineProbe({"all": [nn.Parameter(torch.ones(2))]})
    with pytest.raises(RuntimeError, match=r"no gradients to read. Call probe.observe\(\) after loss.backward"):
        probe.observe()


def trained(num_steps: int, *, every: int | None) -> tuple[dict[str, Tensor], Tensor]:
    model = small_model()
    optimizer = Adam(model.parameters(), fused=True)
    probes = [] if every is None else make_probes(model, optimizer, every=every)
    torch.manual_seed(1)
    for step in range(1, num_steps + 1):
        backward(model, step)
        for probe in probes:
            probe.observe()
        optimizer.step()
    return model.state_dict(), torch.get_rng_state()


@pytest.mark.parametrize("every", [1, 7])
def test_after_100_updates_with_dropout_the_weights_are_the_same_to_the_bit(every: int) -> None:
    (with_probes, stream), (without, other_stream) = trained(100, every=every), trained(100, every=None)

    assert all(torch.equal(with_probes[name], without[name]) for name in without)
    assert torch.equal(stream, other_stream)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("stopped_at", [4, 5, 6])
def test_saved_and_loaded_they_measure_what_they_would_have_measured(every: int, stopped_at: int) -> None:
    rows = []
    for stops in (False, True):
        model = small_model()
        optimizer = Adam(model.parameters())
        probes = make_probes(model, optimizer, every=every)
        for step in range(1, 10):
            backward(model, step)
            for probe in probes:
                probe.observe()
            optimizer.step()
            if stops and step == stopped_at:
                buffer = io.BytesIO()
                torch.save([probe.state_dict() for probe in probes], buffer)
                buffer.seek(0)
                for probe in probes:
                    probe.detach()
                probes = make_probes(model, optimizer, every=every)
                for probe, state in zip(probes, torch.load(buffer, weights_only=True), strict=True):
                    probe.load_state_dict(state)
        rows.append([probe.take_rows() for probe in probes])

    assert rows[0] == rows[1]
    assert list(rows[0][0]) == list(range(every, 10, every))


@pytest.mark.filterwarnings("ignore:Using backward")  # torch's own advice against it
def test_gradients_that_can_be_differentiated_are_measured_too() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = SGD([weight], lr=0.1)
    probes = [GradientCosineProbe({"all": [weight]}), UpdateRatioProbe({"all": [weight]}, optimizer)]
    for _ in range(2):
        optimizer.zero_grad()
        (weight**3).sum().backward(create_graph=True)
        for probe in probes:
            probe.observe()
        optimizer.step()
    assert list(probes[0].take_rows()) == [2]
    assert list(probes[1].take_rows()) == [1, 2]


@pytest.mark.parametrize("use_reentrant", [True, False, None])
def test_units_that_are_recomputed_in_the_backward_pass_count_once(use_reentrant: bool | None) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())
    with torch.no_grad():
        model[0].bias.fill_(100.0)
        model[2].bias.fill_(-1e6)
    probe = DeadReluProbe({"all": model})

    def forward(images: Tensor) -> Tensor:
        if use_reentrant is None:
            return model(images)
        return model[3](checkpoint(model[:3], images, use_reentrant=use_reentrant))

    model(torch.randn(5, 4)).sum().backward()  # an update without it first
    probe.observe()
    for _ in range(2):  # two passes for one update
        forward(torch.randn(5, 4, requires_grad=True)).sum().backward()
    probe.observe()
    assert probe.take_rows() == {update: {"dead_relu/all": 0.5} for update in (1, 2)}


def test_channels_may_be_the_last_dimension() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([100.0, 100, 100, -1e6, -1e6, -1e6]))
    for dim, dead in ((-1, 0.5), (1, 0.0)):
        probe = DeadReluProbe({"all": model}, dim=dim)
        model(torch.randn(5, 3, 4)).sum().backward()
        probe.observe()
        assert probe.take_rows()[1]["dead_relu/all"] == dead
        probe.detach()


def test_adams_moments_in_half_precision_are_added_up_in_single() -> None:
    torch.manual_seed(0)
    weights = nn.Parameter(torch.randn(3000, dtype=torch.bfloat16))
    optimizer = Adam([weights])
    for _ in range(3):
        weights.grad = torch.randn_like(weights)
        optimizer.step()
    probe = AdamSnrProbe({"all": [weights]}, optimizer)
    probe.observe()
    state = optimizer.state[weights]
    first, second = (state[name].double() for name in ("exp_avg", "exp_avg_sq"))
    twin = (first / (1 - 0.9**3)).square().sum() / (second / (1 - 0.999**3)).sum()
    assert probe.take_rows()[1]["adam_snr/all"] == pytest.approx(float(twin), rel=1e-5)


@pytest.mark.parametrize("every", [1, 25])
def test_an_optimizer_that_makes_no_update_is_named(every: int) -> None:
    weights, others = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    elsewhere = Adam([others])
    for probe, words in (
        (UpdateRatioProbe({"all": [weights]}, Adam([weights]), every=every), "100 updates .* the optimizer made none"),
        (AdamSnrProbe({"all": [weights]}, Adam([weights]), every=every), "no moments of these groups at 100 measure"),
        (AdamSnrProbe({"all": [weights]}, elsewhere, every=every), "no moments of these groups at 100 measurements"),
    ):
        others.grad = torch.ones(3)
        for _ in range(99 * every):
            probe.observe()
            elsewhere.step()
        with pytest.raises(RuntimeError, match=words):
            for _ in range(2 * every):
                probe.observe()
        probe.detach()


def test_an_optimizer_that_has_made_updates_may_leave_many_out() -> None:
    weights = nn.Parameter(torch.ones(3))
    optimizer = SGD([weights], lr=0.1)
    probe = UpdateRatioProbe({"all": [weights]}, optimizer)
    probe.observe()
    optimizer.step()
    for _ in range(300):
        probe.observe()
    assert list(probe.take_rows()) == [1]


def test_dead_units_are_counted_within_a_whole_compiled_graph() -> None:
    torch._dynamo.reset()
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([100.0, 100, 100, -1e6, -1e6, -1e6]))
    probe = DeadReluProbe({"all": model})
    torch.compile(model, backend="eager", fullgraph=True)(torch.randn(5, 4)).sum().backward()
    probe.observe()
    assert probe.take_rows() == {1: {"dead_relu/all": 0.5}}


def test_gradients_that_are_not_dense_are_refused_by_name() -> None:
    model = nn.Embedding(5, 3, sparse=True)
    model(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(ValueError, match=r"got one of layout torch.sparse_coo: make the embedding with sparse=False"):
        GradientProbe({"all": list(model.parameters())}).observe()
