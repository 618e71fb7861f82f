"""A network with its parameters in one tensor trains as the same model does without."""

import copy
import shutil
import weakref
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from lrlab.data import Batch
from lrlab.gradients import vector_changes, vector_products
from lrlab.models import layer_groups, resnet18
from lrlab.models.resnet import Projection
from lrlab.probes import DeadReluProbe, GradientCosineProbe, GradientProbe, OutputGradientProbe, Probe, UpdateRatioProbe
from lrlab.training import Engine, Network, compiling, train
from lrlab.training.checkpoint import model_bytes

FP32 = Engine(torch.device("cpu"), "fp32")
BF16 = Engine(torch.device("cpu"), "bf16")
COMPILED = Engine(torch.device("cpu"), "fp32", compile=True)

needs_a_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler"
)


def small_model(engine: Engine = FP32) -> nn.Module:
    torch.manual_seed(0)
    return engine.place(resnet18(num_classes=10, in_channels=1, width=4))


def make_network(engine: Engine = FP32) -> Network:
    model = small_model(engine)
    return Network(model, layer_groups(model), engine=engine)


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 1, 8, 8, generator=generator), torch.randint(0, 10, (8,), generator=generator)


def backward(network: Network, step: int = 1) -> float:
    images, labels = batch(step)
    numbers = next(network.model.parameters()).dtype
    loss = F.cross_entropy(network.logits(images.to(numbers)), labels)
    network.backward(loss)
    return loss.item()


def optimizer_of(kind: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if kind == "adam":
        return torch.optim.Adam(parameters, lr=1e-3, weight_decay=1e-3, fused=True)
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-3, fused=True)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
@pytest.mark.parametrize(
    ("engine", "numbers", "tolerance"),
    [(FP32, torch.float64, 1e-9), (BF16, torch.float32, 1e-3)],  # ten updates of SGD make of 1e-7 what they like
    ids=["float64", "bf16"],
)
def test_it_trains_as_the_model_alone_does(engine: Engine, numbers: torch.dtype, tolerance: float, kind: str) -> None:
    alone, model = (small_model(engine).to(numbers) for _ in range(2))
    network = Network(model, layer_groups(model), engine=engine)
    optimizer = optimizer_of(kind, list(alone.parameters()))
    flat_optimizer = optimizer_of(kind, [whole for group in network.groups.values() for whole in group])
    for step in range(1, 11):
        images, labels = batch(step)
        loss = F.cross_entropy(engine.logits(alone, images.to(numbers)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert backward(network, step) == pytest.approx(loss.item(), rel=0.1 * tolerance)
        flat_optimizer.step()
    for (name, one), other in zip(alone.state_dict().items(), network.model.state_dict().values(), strict=True):
        torch.testing.assert_close(
            other, one, rtol=tolerance, atol=0.1 * tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_parameters_and_gradients_are_seen_through_the_model() -> None:
    network, alone = make_network(), small_model()
    backward(network)
    images, labels = batch(1)
    F.cross_entropy(alone(images), labels).backward()
    for (name, one), other in zip(alone.named_parameters(), network.model.parameters(), strict=True):
        assert torch.equal(one, other), name
        assert other.grad is not None
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-7)
        assert other.stride() == one.stride() == other.grad.stride()
    with torch.no_grad():
        network.groups["linear"][0].zero_()
    assert network.model.get_submodule("linear").weight.count_nonzero() == 0


def test_the_groups_hold_every_parameter_once() -> None:
    network = make_network()
    groups = layer_groups(network.model)
    assert list(network.groups) == list(groups)
    for name, [whole] in network.groups.items():
        assert whole.numel() == sum(parameter.numel() for parameter in groups[name])
        assert torch.equal(whole.sort().values, torch.cat([p.flatten() for p in groups[name]]).sort().values)


def test_a_gradient_is_that_of_the_last_backward_pass_alone() -> None:
    network = make_network()
    backward(network)
    first = network.groups["layer1"][0].grad.clone()
    backward(network)
    torch.testing.assert_close(network.groups["layer1"][0].grad, first, rtol=1e-5, atol=1e-8)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.used, self.unused = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)
        self.frozen.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.used(self.frozen(images.flatten(1)))
        return out


def test_a_parameter_that_the_loss_does_not_depend_on_has_a_gradient_of_zeros_and_a_frozen_one_none() -> None:
    model = TwoHeads()
    before = model.frozen.weight.clone()
    network = Network(model, layer_groups(model), engine=FP32)
    assert list(network.groups) == ["used", "unused"]
    for _ in range(2):
        network.backward(F.cross_entropy(network.logits(torch.rand(2, 3, 1, 1)), torch.tensor([0, 1])))
        assert network.groups["unused"][0].grad.count_nonzero() == 0
        assert network.groups["used"][0].grad.count_nonzero() > 0
        network.groups["unused"][0].grad.fill_(1.0)  # must not survive
    assert model.frozen.weight.grad is None
    assert torch.equal(model.frozen.weight, before)


def test_a_copy_of_the_model_stands_on_its_own() -> None:
    network = make_network()
    copied = copy.deepcopy(network.model)
    with torch.no_grad():
        network.groups["linear"][0].zero_()
    assert copied.get_submodule("linear").weight.count_nonzero() > 0


def test_the_saved_weights_are_the_models_own_numbers_and_shapes() -> None:
    network = make_network(BF16)
    saved = load(model_bytes(network.model))
    expected = small_model().state_dict()
    assert set(saved) == set(expected)
    assert all(torch.equal(saved[name], expected[name]) for name in expected)
    assert all(saved[name].dtype == expected[name].dtype for name in expected)


def float64_sums(network: Network) -> list[list[float]]:
    gradients = [whole.grad.double() for [whole] in network.groups.values()]
    return [
        [g.square().sum().item() for g in gradients],
        [g.abs().sum().item() for g in gradients],
        [g.abs().max().item() for g in gradients],
    ]


def test_gradient_sums_agree_with_a_float64_twin() -> None:
    network = make_network()
    backward(network)
    assert network.telemetry == "eager"
    for sums, twin in zip(network.gradient_sums().tolist(), float64_sums(network), strict=True):
        assert sums == pytest.approx(twin, rel=1e-5)


def tiny_network(engine: Engine) -> Network:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 4, 3), Projection(4, 4, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    model = engine.place(nn.Sequential(OrderedDict(body=body, linear=nn.Linear(36, 10))))
    return Network(model, layer_groups(model), engine=engine)


@needs_a_compiler
@pytest.mark.filterwarnings("ignore")  # torch's own, inside its compiler
def test_compiled_once_it_trains_the_same() -> None:
    network, eager = tiny_network(COMPILED), tiny_network(FP32)
    assert network.telemetry == "compiled"
    probes, trainings = [], []
    for net in (network, eager):
        modules = dict(net.model.named_children())
        probes.append([OutputGradientProbe(modules, every=2), DeadReluProbe(modules, every=3)])
        optimizer = torch.optim.SGD([whole for [whole] in net.groups.values()], lr=0.01)
        scheduler = LambdaLR(optimizer, lambda step: 1.0)
        batches = lambda step: Batch(step, 1, *batch(step))  # noqa: E731
        trainings.append(train(net, batches, optimizer, scheduler, num_steps=5, probes=probes[-1]))
    for step in range(1, 6):  # of which hooks watch the second, third and fourth
        with torch.compiler.set_stance("default" if step == 1 else "fail_on_recompile"):
            update = next(trainings[0])
        assert update.loss.item() == pytest.approx(next(trainings[1]).loss.item(), rel=1e-5)
        for name, [whole] in network.groups.items():
            torch.testing.assert_close(whole.grad, eager.groups[name][0].grad, rtol=1e-4, atol=1e-6)
        for sums, twin in zip(network.gradient_sums().tolist(), float64_sums(network), strict=True):
            assert sums == pytest.approx(twin, rel=1e-5)
    for probe, expected in zip(*probes, strict=True):
        (steps, values), (expected_steps, expected_values) = probe.take(), expected.take()
        assert steps.tolist() == expected_steps.tolist() == list(range(probe.every, 6, probe.every))
        torch.testing.assert_close(values, expected_values, rtol=1e-4, atol=1e-6)


@needs_a_compiler
@pytest.mark.filterwarnings("ignore")
def test_compiled_probes_of_pairs_agree_with_a_float64_twin() -> None:
    network = tiny_network(COMPILED)
    wholes = [whole for [whole] in network.groups.values()]
    optimizer = optimizer_of("adam", wholes)
    changes, products = network.compiled(vector_changes), network.compiled(vector_products)
    assert changes is not None
    assert products is not None
    probes: list[Probe] = [
        UpdateRatioProbe(network.groups, optimizer, changes=changes),
        GradientCosineProbe(network.groups, products=products),
    ]
    expected: dict[int, dict[str, float]] = {step: {} for step in (1, 2, 3)}
    last: dict[str, Tensor] = {}
    for step, row in expected.items():
        backward(network, step)
        before = {name: whole.detach().double() for name, [whole] in network.groups.items()}
        gradients = {name: whole.grad.double() for name, [whole] in network.groups.items()}
        for name, h in last.items():
            row[f"grad_cosine/{name}"] = (gradients[name] @ h / gradients[name].norm() / h.norm()).item()
        last = gradients
        for probe in probes:
            probe.observe()
        optimizer.step()
        for name, [whole] in network.groups.items():
            row[f"update_ratio/{name}"] = ((whole.double() - before[name]).norm() / before[name].norm()).item()
    found = [probe.take_rows() for probe in probes]
    for step, row in expected.items():
        assert {**found[0][step], **found[1].get(step, {})} == pytest.approx(row, rel=1e-5)


@needs_a_compiler
def test_where_the_compiler_cannot_keep_its_work_the_telemetry_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/dev/null/nowhere")
    monkeypatch.setattr(compiling, "NUM_PARAMETERS_TO_COMPILE", 0)
    with pytest.warns(UserWarning, match="could not be compiled, so it costs more"):
        network = make_network(Engine(torch.device("cpu"), "fp32", compile="auto"))
    assert network.telemetry == "eager"


def test_a_network_is_gone_with_its_last_name() -> None:
    network = make_network()
    gone = weakref.ref(network)
    del network
    assert gone() is None


def test_a_small_networks_telemetry_is_not_worth_a_compiler() -> None:
    network = make_network(Engine(torch.device("cpu"), "fp32", compile="auto"))
    assert network.telemetry == "eager"
    assert network.compiled(vector_changes) is None


def test_a_probe_of_the_whole_groups_reads_what_one_of_the_parameters_does() -> None:
    network = make_network()
    one = GradientProbe(network.groups, sums=network.gradient_sums)
    other = GradientProbe(layer_groups(network.model))
    backward(network)
    one.observe()
    other.observe()
    assert one.take_rows()[1] == pytest.approx(other.take_rows()[1], rel=1e-5)


def test_bf16_gradients_are_near_those_of_fp32() -> None:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(64, 1, 8, 8, generator=generator), torch.randint(0, 10, (64,), generator=generator)
    gradients = []
    for engine in (FP32, BF16):
        network = make_network(engine)
        network.backward(F.cross_entropy(network.logits(images), labels))
        gradients.append({name: whole.grad for name, [whole] in network.groups.items()})
    for name, exact in gradients[0].items():
        rounded = gradients[1][name]
        # bfloat16 keeps 8 bits: an error of 2**-9 at each of up to 36 layers there and back, but the same direction
        assert F.cosine_similarity(exact, rounded, dim=0) > 0.9, name
        assert rounded.norm().item() == pytest.approx(exact.norm().item(), rel=0.1), name
