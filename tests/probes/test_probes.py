"""Probes against slow twins, and that they change nothing."""

import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrlab.models import layer_groups, resnet18
from lrlab.probes import GradientProbe, OutputGradientProbe, Probe

NAMES = ["stem", "layer1", "layer2", "layer3", "layer4", "linear"]


def small_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return resnet18(num_classes=10, in_channels=1, width=4)


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 1, 8, 8, generator=generator), torch.randint(0, 10, (8,), generator=generator)


def backward(model: nn.Module, step: int = 1) -> Tensor:
    images, labels = batch(step)
    loss = F.cross_entropy(model(images), labels)
    model.zero_grad()
    loss.backward()
    return loss


def test_gradient_probe_agrees_with_a_float64_twin() -> None:
    model = small_model()
    probe = GradientProbe(layer_groups(model))
    backward(model)
    probe.observe()
    row = probe.take_rows()[1]
    for name in NAMES:
        flat = torch.cat([p.grad.double().flatten() for p in model.get_submodule(name).parameters()])
        assert row[f"grad_l2/{name}"] == pytest.approx(flat.square().sum().sqrt().item(), rel=1e-5)
        assert row[f"grad_rms/{name}"] == pytest.approx(flat.square().mean().sqrt().item(), rel=1e-5)
        assert row[f"grad_mean/{name}"] == pytest.approx(flat.abs().mean().item(), rel=1e-5)
        assert row[f"grad_max/{name}"] == flat.abs().max().item()


def test_output_gradient_probe_agrees_with_autograd_on_the_output_itself() -> None:
    model = small_model()
    probe = OutputGradientProbe(dict(model.named_children()))
    backward(model)
    probe.observe()
    row = probe.take_rows()[1]
    probe.detach()

    outputs = {}
    for name in NAMES:
        model.get_submodule(name).register_forward_hook(lambda _m, _a, out, name=name: outputs.update({name: out}))
    images, labels = batch(1)
    loss = F.cross_entropy(model(images), labels)
    for name, gradient in zip(NAMES, torch.autograd.grad(loss, [outputs[name] for name in NAMES]), strict=True):
        assert row[f"grad_out_l2/{name}"] == pytest.approx(gradient.double().square().sum().sqrt().item(), rel=1e-5)
        assert row[f"grad_out_rms/{name}"] == pytest.approx(gradient.double().square().mean().sqrt().item(), rel=1e-5)


def test_the_gradient_of_the_logits_is_softmax_minus_one_hot() -> None:
    model = small_model()
    probe = OutputGradientProbe({"linear": model.get_submodule("linear")})
    images, labels = batch(1)
    logits = model(images)
    F.cross_entropy(logits, labels).backward()
    probe.observe()
    by_hand = (logits.softmax(1) - F.one_hot(labels, 10)) / len(labels)
    assert probe.take_rows()[1]["grad_out_l2/linear"] == pytest.approx(by_hand.norm().item(), rel=1e-5)


def make_probes(model: nn.Module, every: int) -> list[Probe]:
    return [
        GradientProbe(layer_groups(model), every=every),
        OutputGradientProbe(dict(model.named_children()), every=every),
    ]


def test_every_25th_update_is_measured() -> None:
    model = small_model()
    probes = make_probes(model, every=25)
    for step in range(1, 61):
        backward(model, step)
        for probe in probes:
            probe.observe()
    for probe in probes:
        rows = probe.take_rows()
        assert list(rows) == [25, 50]
        assert all(list(row) == list(probe.columns) for row in rows.values())
        assert probe.take_rows() == {}


def trained_weights(*, probed: bool) -> tuple[dict[str, Tensor], Tensor]:
    model = small_model()
    probes = make_probes(model, every=1) if probed else []
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    torch.manual_seed(1)
    for step in range(1, 21):
        backward(model, step)
        for probe in probes:
            probe.observe()
        optimizer.step()
        if step % 5 == 0:
            model.eval()
            with torch.no_grad():
                model(batch(step)[0])
            model.train()
    return model.state_dict(), torch.get_rng_state()


def test_probes_change_neither_weights_nor_the_random_stream() -> None:
    (with_probes, stream), (without, other_stream) = trained_weights(probed=True), trained_weights(probed=False)
    assert all(torch.equal(with_probes[name], without[name]) for name in without)
    assert torch.equal(stream, other_stream)


def test_reading_before_backward_raises() -> None:
    model = small_model()
    with pytest.raises(RuntimeError, match=r"no gradients to read. Call probe.observe\(\) after loss.backward"):
        GradientProbe(layer_groups(model)).observe()
    with pytest.raises(RuntimeError, match="nothing flowed back through stem, layer1"):
        OutputGradientProbe(dict(model.named_children())).observe()


def test_an_output_that_is_not_one_tensor_is_refused() -> None:
    recurrent = nn.GRU(2, 2)
    probe = OutputGradientProbe({"recurrent": recurrent})
    with pytest.raises(TypeError, match="the output of recurrent must be one tensor, got tuple"):
        recurrent(torch.zeros(1, 1, 2))
    probe.detach()
    recurrent(torch.zeros(1, 1, 2))


def test_a_parameter_without_a_gradient_counts_as_zeros() -> None:
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(1))
    used.grad = torch.ones(3)
    probe = GradientProbe({"both": [used, unused], "unused": [unused]})
    probe.observe()
    row = probe.take_rows()[1]
    assert row["grad_l2/both"] == pytest.approx(3**0.5)
    assert row["grad_rms/both"] == pytest.approx((3 / 4) ** 0.5)
    assert row["grad_l2/unused"] == 0.0


def test_an_interval_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="every must be >= 1, got 0"):
        GradientProbe(layer_groups(small_model()), every=0)


def test_saved_and_loaded_a_probe_goes_on_with_its_count_and_what_it_has_not_given_yet() -> None:
    model = small_model()
    one, other = GradientProbe(layer_groups(model), every=3), GradientProbe(layer_groups(model), every=3)
    for step in range(1, 8):
        backward(model, step)
        one.observe()
    buffer = io.BytesIO()
    torch.save(one.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    for step in range(8, 10):
        backward(model, step)
        one.observe()
        other.observe()
    rows = other.take_rows()
    assert list(rows) == [3, 6, 9]
    assert rows == one.take_rows()
