"""The loop, the evaluation and the rows, on a small real network and real digits."""

import math
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils._python_dispatch import TorchDispatchMode

from lrlab.data import Batches, ImageData, load_digits_data
from lrlab.models import layer_groups, resnet18
from lrlab.probes import GradientProbe, OutputGradientProbe
from lrlab.schedulers import ArticleLR
from lrlab.schedules import linear
from lrlab.training import (
    Engine,
    EngineError,
    Network,
    Recorder,
    choose_engine,
    evaluate,
    train,
)

CPU = Engine(torch.device("cpu"), "fp32")


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_digits_data()


def small_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return CPU.place(resnet18(num_classes=10, in_channels=1, width=4))


def small_network() -> Network:
    model = small_model()
    return Network(model, layer_groups(model), engine=CPU)


def whole_groups(network: Network) -> list[nn.Parameter]:
    return [whole for group in network.groups.values() for whole in group]


def textbook_losses(digits: ImageData, num_steps: int) -> list[float]:
    """The loop as anybody would write it, with the rates by hand."""
    model = small_model()
    batches = Batches(digits, batch_size=16, seed=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(1, num_steps + 1):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - (step - 1) / (num_steps - 1))
        batch = batches.batch(step)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch.images), batch.labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_loop_is_the_textbooks(digits: ImageData) -> None:
    network = small_network()
    optimizer = torch.optim.SGD(whole_groups(network), lr=0.1)
    batches = Batches(digits, batch_size=16, seed=3)
    updates = list(train(network, batches.batch, optimizer, LambdaLR(optimizer, linear(30)), num_steps=30))
    assert [update.loss.item() for update in updates] == pytest.approx(textbook_losses(digits, 30), rel=1e-5)
    assert [update.step for update in updates] == list(range(1, 31))
    assert updates[0].lrs == (0.1,)
    assert updates[-1].lrs == (0.0,)


def test_smoothed_labels_are_trained_on_and_told(digits: ImageData) -> None:
    batch = Batches(digits, batch_size=16, seed=3).batch(1)
    model = small_model().train()
    log_probabilities = model(batch.images).double().log_softmax(1)
    target = 0.9 * F.one_hot(batch.labels, 10).double() + 0.1 / 10
    loss = -(target * log_probabilities).sum(1).mean()
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]

    network = small_network()
    optimizer = torch.optim.SGD(whole_groups(network), lr=0.0)
    scheduler = LambdaLR(optimizer, lambda step: 1.0)
    (told,) = train(network, lambda step: batch, optimizer, scheduler, num_steps=1, label_smoothing=0.1)
    assert told.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    for parameter, gradient in zip(network.model.parameters(), gradients, strict=True):
        # one pass through the network in float32 is rounded the same way; the loss on top of it is not
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_an_update_tells_the_rate_that_it_was_made_with(digits: ImageData) -> None:
    network = small_network()
    optimizer = torch.optim.Adam(whole_groups(network), 1e-3)
    scheduler = ArticleLR(optimizer, multiplier=1e9, check_every=2)  # decays at every look
    updates = train(network, Batches(digits, batch_size=8, seed=0).batch, optimizer, scheduler, num_steps=6)
    assert [update.lrs[0] for update in updates] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_a_tensor_rate_is_told_as_it_was(digits: ImageData) -> None:
    network = small_network()
    optimizer = torch.optim.Adam(whole_groups(network), torch.tensor(1e-3))
    scheduler = ArticleLR(optimizer, multiplier=1e9, check_every=2)
    updates = list(train(network, Batches(digits, batch_size=8, seed=0).batch, optimizer, scheduler, num_steps=4))
    assert [float(update.lrs[0]) for update in updates] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


class CountWaits(TorchDispatchMode):
    """Counts what fetches a number from the device, each of which would stop a GPU's queue."""

    def __init__(self) -> None:
        super().__init__()
        self.num_waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num_waits += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_no_update_waits_for_the_device_but_those_that_decide(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = small_network()
    optimizer = torch.optim.Adam([{"params": whole_groups(network), "name": "all"}], fused=True)
    scheduler = ArticleLR(optimizer, check_every=10)
    probes = [
        GradientProbe(network.groups, sums=network.gradient_sums),
        GradientProbe(layer_groups(network.model)),
        OutputGradientProbe(dict(network.model.named_children())),
    ]
    recorder = Recorder(["all"], probes)
    waits = []
    monkeypatch.setattr(network, "check_finite", lambda *_: None)  # as on a GPU: on a processor a look costs nothing
    with CountWaits() as counter:
        batches = Batches(digits, batch_size=8, seed=0)
        for update in train(network, batches.batch, optimizer, scheduler, num_steps=31, probes=probes):
            recorder.add(update)
            waits.append(counter.num_waits)
            counter.num_waits = 0
    assert [step for step, count in enumerate(waits, start=1) if count] == [10, 20, 30]


def test_evaluation_leaves_each_module_in_its_own_mode() -> None:
    model = small_model().train()
    model.get_submodule("stem.1").eval()  # a frozen batch normalisation
    evaluate(model, [(torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))], engine=CPU, num_classes=10)
    assert model.training
    assert not model.get_submodule("stem.1").training


def test_threads_of_one_engine_do_not_stay_for_the_next() -> None:
    before = torch.get_num_threads()
    choose_engine(device="cpu", threads=2 if before == 1 else 1)
    assert torch.get_num_threads() != before
    choose_engine(device="cpu")
    assert torch.get_num_threads() == before


def test_evaluation_agrees_with_a_slow_twin_and_leaves_the_mode(digits: ImageData) -> None:
    model = small_model().train()
    images, labels = digits.test.images[:100].float() / 255, digits.test.labels[:100]
    batches = list(zip(images.split(32), labels.split(32), strict=True))
    result = evaluate(model, batches, engine=CPU, num_classes=10)
    assert model.training

    model.eval()
    confusion = [[0] * 10 for _ in range(10)]
    sums = torch.zeros(10, 10, dtype=torch.float64)
    loss = 0.0
    with torch.no_grad():
        for image, label in zip(images, labels.tolist(), strict=True):
            probabilities = model(image[None])[0].double().softmax(0)
            confusion[label][int(probabilities.argmax())] += 1
            sums[label] += probabilities
            loss -= math.log(probabilities[label])
    counts = [sum(row) for row in confusion]
    assert result.confusion == confusion
    assert result.loss == pytest.approx(loss / 100, rel=1e-5)
    assert result.accuracy == sum(confusion[k][k] for k in range(10)) / 100
    assert result.class_accuracy == [confusion[k][k] / counts[k] for k in range(10)]
    for k in range(10):
        assert result.mean_probabilities[k] == pytest.approx((sums[k] / counts[k]).tolist(), abs=1e-6)


def test_a_mirrored_evaluation_is_of_the_mean_of_two_logits() -> None:
    weights = torch.tensor([[2.0, 0.0], [0.0, 1.0]])  # class 0 looks at the left pixel, class 1 at the right one
    linear = nn.Linear(2, 2, bias=False)
    linear.weight.data = weights
    model = nn.Sequential(nn.Flatten(), linear)
    images = torch.tensor([[1.0, 4.0], [3.0, 1.0]]).view(2, 1, 1, 2)
    labels = torch.tensor([0, 1])
    # plain logits (2, 4) and (6, 1); of the mirror images (8, 1) and (2, 3); means (5, 2.5) and (4, 2)
    plain = (math.log(1 + math.exp(4 - 2)) + math.log(1 + math.exp(6 - 1))) / 2
    mean = (math.log(1 + math.exp(2.5 - 5)) + math.log(1 + math.exp(4 - 2))) / 2
    for sizes in (2, 1):
        batches = list(zip(images.split(sizes), labels.split(sizes), strict=True))
        result = evaluate(model, batches, engine=CPU, num_classes=2, mirror=True)
        assert (result.loss, result.accuracy) == (pytest.approx(plain, rel=1e-6), 0.0)
        assert result.mirror is not None
        assert (result.mirror.loss, result.mirror.accuracy) == (pytest.approx(mean, rel=1e-6), 0.5)
        assert replace(result, mirror=None) == evaluate(model, batches, engine=CPU, num_classes=2)


def test_a_class_without_test_images_has_no_accuracy() -> None:
    model = small_model()
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 0, 2, 2])
    result = evaluate(model, [(images, labels)], engine=CPU, num_classes=10)
    assert result.class_accuracy[1] is None
    assert result.mean_probabilities[1] is None
    assert result.confusion[1] == [0] * 10


def test_evaluation_does_not_touch_the_statistics(digits: ImageData) -> None:
    model = small_model().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluate(model, [(torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))], engine=CPU, num_classes=10)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_no_test_sees_a_gpu_unless_those_that_need_one_are_asked_for(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.option.markexpr == "gpu" or os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what is said where there is no GPU")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(EngineError, match=r"PyTorch sees no CUDA device here. Use --device cpu"):
        choose_engine(device="cuda")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="asks the operating system what the processor has")
def test_auto_precision_takes_bf16_where_the_processor_has_it() -> None:
    flags = Path("/proc/cpuinfo").read_text()
    has_it = "avx512_bf16" in flags or "amx_bf16" in flags
    assert choose_engine(device="cpu", precision="auto").precision == ("bf16" if has_it else "fp32")


def test_bf16_that_the_processor_has_not_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    for question in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, question, lambda: False)
    assert choose_engine(device="cpu", precision="auto").precision == "fp32"
    with pytest.warns(UserWarning, match="this processor has neither AVX512-BF16 nor AMX"):
        assert choose_engine(device="cpu", precision="bf16").precision == "bf16"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert choose_engine(device="cpu", precision="bf16").precision == "bf16", "with no warning, which would fail"


FLOAT32 = """
import torch
from torch import backends
from lrlab.training import choose_engine
from lrlab.training.engine import without_tf32

def precisions():
    operations = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul, backends.mkldnn.conv,
                  backends.mkldnn.matmul)
    return [operation.fp32_precision for operation in operations]

def old_flags():
    try:
        return backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()
    except RuntimeError:
        return None

{before}
before = precisions(), old_flags()
with without_tf32():
    assert precisions() == ["ieee"] * 5, precisions()
    assert old_flags() == (False, False, "highest"), old_flags()
assert (precisions(), old_flags()) == before, (precisions(), old_flags(), before)
if backends.fp32_precision != "none":  # what followed it still does
    backends.fp32_precision = {{"ieee": "tf32", "tf32": "ieee"}}[backends.fp32_precision]
    assert precisions() == [backends.fp32_precision] * 5, precisions()
choose_engine(device="cpu", precision="bf16")
assert precisions()[:2] == ["tf32"] * 2, precisions()
choose_engine(device="cpu", precision="fp32")
assert precisions() == ["ieee"] * 5, precisions()
assert old_flags() == (False, False, "highest"), old_flags()
"""


@pytest.mark.parametrize(
    "before",
    [
        "",
        "backends.fp32_precision = 'ieee'",
        "backends.fp32_precision = 'tf32'",
        "backends.cudnn.conv.fp32_precision = 'ieee'",
        "torch.set_float32_matmul_precision('medium')",
    ],
)
def test_fp32_is_float32_whatever_a_process_has_set_by_the_old_flags_or_the_new(before: str) -> None:
    arguments = [sys.executable, "-W", "ignore", "-c", FLOAT32.format(before=before)]
    assert subprocess.run(arguments, capture_output=True, text=True, check=False).stderr == ""


def test_memory_is_kept_where_the_c_library_can_and_said_to_be() -> None:
    has_glibc = "glibc" in platform.libc_ver()[0]
    assert choose_engine(device="cpu", keep_memory=True).memory == ("kept" if has_glibc else "returned")
    assert choose_engine(device="cpu").memory == "returned"


FLUSH = """
import torch
from lrlab.training import EngineError, choose_engine
normal = torch.full((1_000_000,), 2e-38)
{before}
try:
    choose_engine(device="cpu", threads=2, flush_denormals=True)
except EngineError as error:
    print(error)
print(normal.mul(0.5).view(torch.int32).count_nonzero().item())
"""


def flush(before: str) -> str:
    arguments = [sys.executable, "-c", FLUSH.format(before=before)]
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


def test_denormals_are_flushed_in_every_thread_of_a_new_process() -> None:
    assert flush("") == "0\n"


def test_denormals_that_some_threads_would_keep_are_refused() -> None:
    message, left = flush("torch.set_num_threads(2); normal.mul(0.5)").splitlines()
    assert message.startswith("engine.flush_denormals: PyTorch's threads were started without it")
    assert left == "1000000"
