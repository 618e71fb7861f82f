"""Probes against slow twins, and that they change nothing."""

import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrlab.models import layer_groups, resnet18
from lrlab.probes import GradientProbe, OutputGradientProbe, Probe
from lrlab.probes.buffer import ROWS_PER_CHUNK

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


class GivenProbe(Probe):
    """Measures 1, 2, 3 ... and its negative."""

    def __init__(self, *, every: int = 1, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(["a/stem", "b/stem"], every=every)
        self.dtype = dtype

    def _measure(self) -> Tensor:
        return torch.tensor([1.0, -1.0], dtype=self.dtype) * (self.num_updates + 1)


def observe(probe: Probe, num_updates: int) -> None:
    for _ in range(num_updates):
        probe.observe()


def test_measurements_are_taken_as_columns_once() -> None:
    probe = GivenProbe(every=2)
    observe(probe, 5)
    steps, values = probe.take()
    assert (steps.dtype, steps.tolist()) == (torch.int64, [2, 4])
    assert (values.dtype, values.tolist()) == (torch.float32, [[2.0, -2.0], [4.0, -4.0]])
    steps, values = probe.take()
    assert (steps.shape, values.shape) == ((0,), (0, 2))


def test_what_was_taken_does_not_change_when_more_is_measured() -> None:
    probe = GivenProbe()
    observe(probe, 3)
    _, values = probe.take()
    observe(probe, 3)
    assert values[:, 0].tolist() == [1, 2, 3]
    assert probe.take()[1][:, 0].tolist() == [4, 5, 6]


def test_more_measurements_than_memory_is_set_aside_for_at_once_are_all_there() -> None:
    probe = GivenProbe()
    for first, num_updates in ((1, 2 * ROWS_PER_CHUNK + 1), (2 * ROWS_PER_CHUNK + 2, ROWS_PER_CHUNK)):
        observe(probe, num_updates)
        steps, values = probe.take()
        assert steps.tolist() == list(range(first, first + num_updates))
        assert values.tolist() == [[step, -step] for step in range(first, first + num_updates)]


def test_measuring_sets_memory_aside_once_for_many_updates() -> None:
    probe = GivenProbe()
    observe(probe, ROWS_PER_CHUNK)
    places = {place.data_ptr() for place in probe._buffer._places}
    probe.take()
    observe(probe, ROWS_PER_CHUNK)
    assert {place.data_ptr() for place in probe._buffer._places} == places


@pytest.mark.parametrize("num_updates", [0, 7, ROWS_PER_CHUNK, ROWS_PER_CHUNK + 7])
def test_saved_in_the_middle_of_a_chunk_nothing_is_lost(num_updates: int) -> None:
    one, other = GivenProbe(), GivenProbe()
    observe(one, num_updates)
    buffer = io.BytesIO()
    torch.save(one.state_dict(), buffer)
    buffer.seek(0)
    observe(other, 3)  # which is forgotten
    other.load_state_dict(torch.load(buffer, weights_only=True))
    observe(one, 5)
    observe(other, 5)
    for expected, result in zip(one.take(), other.take(), strict=True):
        assert torch.equal(result, expected)
        assert len(result) == num_updates + 5


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(torch.float64, torch.float64), (torch.bfloat16, torch.float32), (torch.float16, torch.float32)],
    ids=str,
)
def test_values_are_kept_as_they_were_measured_in_float32_at_least(dtype: torch.dtype, kept: torch.dtype) -> None:
    probe = GivenProbe()
    probe.observe()
    probe.dtype = dtype  # in the middle, as when a model is converted
    probe.observe()
    values = probe.take()[1]
    assert (values.dtype, values.tolist()) == (kept, [[1.0, -1.0], [2.0, -2.0]])


def test_a_measurement_of_another_length_is_refused() -> None:
    class WrongProbe(GivenProbe):
        def _measure(self) -> Tensor:
            return torch.zeros(1)

    with pytest.raises(ValueError, match=r"WrongProbe: a measurement must hold one value for each of its 2 columns"):
        WrongProbe().observe()


def test_a_measurement_that_hangs_on_the_graph_is_cut_off_it() -> None:
    weight = nn.Parameter(torch.ones(2))

    class GraphProbe(GivenProbe):
        def _measure(self) -> Tensor:
            return weight * 2

    probe = GraphProbe()
    probe.observe()
    values = probe.take()[1]
    assert (values.requires_grad, values.tolist()) == (False, [[2.0, 2.0]])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_measuring_on_a_gpu_never_waits_for_it() -> None:
    class DeviceProbe(GivenProbe):
        def _measure(self) -> Tensor:
            return torch.ones(2, device="cuda") * self.num_updates

    one, other = DeviceProbe(), DeviceProbe()
    torch.cuda.set_sync_debug_mode("error")
    try:
        observe(one, ROWS_PER_CHUNK + 1)
        state = one.state_dict()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    other.load_state_dict({**state, "values": state["values"].cpu()})  # as from a checkpoint
    observe(one, 1)
    observe(other, 1)
    assert torch.equal(one.take()[1], other.take()[1])


def test_a_probe_that_was_made_before_the_model_moved_measures_where_it_is() -> None:
    groups = layer_groups(small_model())
    probe = GradientProbe(groups, sums=lambda: torch.ones(3, len(groups), device="meta"))
    probe.observe()
    assert probe._values().device.type == "meta"


def test_what_is_saved_is_no_larger_than_what_was_measured() -> None:
    model = small_model()
    probe = make_probes(model, every=1)[0]
    backward(model)
    probe.observe()
    values = probe.state_dict()["values"]
    assert values.untyped_storage().nbytes() == values.numel() * values.element_size()


def test_a_group_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="groups: each must have a parameter; these have none: frozen"):
        GradientProbe({"frozen": [], "all": list(small_model().parameters())})


def test_a_model_in_place_of_its_groups_is_refused() -> None:
    with pytest.raises(TypeError, match=r"as from lrlab.models.layer_groups, got Linear"):
        GradientProbe(nn.Linear(1, 1))  # type: ignore[arg-type]
