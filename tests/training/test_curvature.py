"""Curvature: the Hessian written out whole, a library for it, a slow float64 twin, and that nothing is changed."""

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn
from torch.func import functional_call

from lrlab.models import layer_groups, resnet18
from lrlab.training.curvature import CurvatureError, largest_eigenvalue, measure_curvature
from lrlab.training.surface import LossSurface

Batches = Sequence[tuple[Tensor, Tensor]]


def small_model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Tanh(), nn.Dropout(0.5), nn.Flatten()),
        nn.Linear(12, 4),
    )
    for _ in range(3):  # running statistics that are not those of the batches
        model(torch.randn(16, 1, 4, 4) * 2 + 1)
    return model.double()


def batches_of(dtype: torch.dtype = torch.float64, *, side: int = 4, num_classes: int = 4) -> Batches:
    generator = torch.Generator().manual_seed(1)
    sizes = (16, 8)  # of different weight
    return [
        (
            torch.randn(size, 1, side, side, generator=generator, dtype=torch.float64).to(dtype),
            torch.randint(0, num_classes, (size,), generator=generator),
        )
        for size in sizes
    ]


def written_out(model: nn.Module, parameters: Sequence[nn.Parameter], batches: Batches, *, training: bool) -> Tensor:
    """The Hessian whole, by definition: of the loss as a function of one vector."""
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and training:
            module.train()
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    names = [name for name, parameter in named(model, parameters)]
    start = torch.cat([parameter.detach().flatten() for parameter in parameters])

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([parameter.numel() for parameter in parameters])
        weights = {n: part.view(p.shape) for n, part, p in zip(names, parts, parameters, strict=True)}
        logits = torch.cat([functional_call(model, weights, (images,)) for images, _ in batches])
        return F.cross_entropy(logits, torch.cat([labels for _, labels in batches]))

    hessian: Tensor = torch.autograd.functional.hessian(loss, start)
    return hessian


def named(model: nn.Module, parameters: Sequence[nn.Parameter]) -> list[tuple[str, nn.Parameter]]:
    by_value = [(name, p) for name, p in model.named_parameters()]
    return [next((n, q) for n, q in by_value if q.shape == p.shape and torch.equal(q, p)) for p in parameters]


@pytest.mark.parametrize("policy", ["training", "evaluation"])
def test_it_is_that_of_the_hessian_written_out(policy: str) -> None:
    model, batches = small_model(), batches_of()
    surface = LossSurface(model, layer_groups(model), batches, batchnorm=policy)  # type: ignore[arg-type]
    parameters = surface.parameters
    moments = [torch.rand_like(parameter) + 0.1 for parameter in parameters]
    groups = {"whole": parameters, **surface.groups}

    found = measure_curvature(surface, seed=0, num_vectors=400, second_moments=moments)

    for name, group in groups.items():
        hessian = written_out(model, group, batches, training=policy == "training")
        assert found.hessian_max[name] == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-6)
    whole = written_out(model, parameters, batches, training=policy == "training")
    start = 0
    for name, size in {n: sum(p.numel() for p in group) for n, group in groups.items()}.items():
        rows = whole if name == "whole" else whole[start : start + size]
        start += 0 if name == "whole" else size
        own = rows[:, :] if name == "whole" else rows[:, start - size : start]
        # a product z' H z of random signs varies by all that is not on the diagonal
        spread = math.sqrt((rows.square().sum() * 2 - own.diagonal().square().sum() * 2).item() / 400)
        assert found.hessian_trace[name] == pytest.approx(own.trace().item(), abs=4 * spread)
        assert spread < found.hessian_max["whole"] / 3
    scale = torch.cat([(v.sqrt() + 1e-8).rsqrt().flatten() for v in moments])
    seen = torch.linalg.eigvalsh(scale[:, None] * whole * scale)[-1].item()
    assert found.preconditioned_max == pytest.approx(seen, rel=1e-6)


@pytest.mark.parametrize("policy", ["training", "evaluation"])
def test_sam_sharpness_is_the_rise_of_the_loss_along_the_gradient(policy: str) -> None:
    model, batches = small_model(), batches_of()
    groups = layer_groups(model)
    surface = LossSurface(model, groups, batches, batchnorm=policy)  # type: ignore[arg-type]

    found = measure_curvature(surface, seed=0, rho=0.1).sam_sharpness

    for name, group in {"whole": surface.parameters, **groups}.items():
        places = [index for index, p in enumerate(model.parameters()) if any(p is one for one in group)]
        twin = copy.deepcopy(model).eval()
        for module in twin.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train(policy == "training")
        moved = [list(twin.parameters())[index] for index in places]
        before = loss_of(twin, batches)
        gradient = torch.autograd.grad(before, moved)
        length = torch.cat([part.flatten() for part in gradient]).norm()
        with torch.no_grad():
            for parameter, part in zip(moved, gradient, strict=True):
                parameter += 0.1 * part / length
        assert found[name] == pytest.approx((loss_of(twin, batches) - before).item(), rel=1e-9)


def loss_of(model: nn.Module, batches: Batches) -> Tensor:
    logits = torch.cat([model(images) for images, _ in batches])
    return F.cross_entropy(logits, torch.cat([labels for _, labels in batches]))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own forward mode, which theirs uses
@pytest.mark.parametrize("policy", ["training", "evaluation"])
def test_in_float32_it_agrees_with_a_float64_twin_and_with_curvlinops(policy: str) -> None:
    curvlinops = pytest.importorskip("curvlinops", reason="curvlinops-for-pytorch is not installed")
    torch.manual_seed(0)
    model = resnet18(num_classes=10, in_channels=1, width=2)
    double = copy.deepcopy(model).double()
    found = {}
    for dtype, net in ((torch.float32, model), (torch.float64, double)):
        batches = batches_of(dtype, side=8, num_classes=10)
        surface = LossSurface(net, layer_groups(net), batches, batchnorm=policy)  # type: ignore[arg-type]
        found[dtype] = measure_curvature(surface, seed=3, num_vectors=3, by_group=dtype is torch.float32)

    single, twin = found[torch.float32], found[torch.float64]
    assert single.hessian_max["whole"] == pytest.approx(twin.hessian_max["whole"], rel=1e-5)
    assert single.hessian_trace["whole"] == pytest.approx(twin.hessian_trace["whole"], rel=1e-5)
    assert single.sam_sharpness["whole"] == pytest.approx(twin.sam_sharpness["whole"], rel=1e-5)
    double.train(policy == "training")
    for module in double.modules():  # theirs cannot have running statistics change
        if isinstance(module, nn.BatchNorm2d) and policy == "training":
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
            module.num_batches_tracked = None
    for name, group in {"whole": list(double.parameters()), **layer_groups(double)}.items():
        if name in ("whole", "stem", "linear"):
            data = batches_of(side=8, num_classes=10)
            operator = curvlinops.HessianLinearOperator(
                double, nn.CrossEntropyLoss(), group, data, check_deterministic=False
            ).to_scipy()
            theirs = eigsh(operator, k=1, which="LA", tol=1e-5, return_eigenvectors=False)[0]
            assert single.hessian_max[name] == pytest.approx(theirs, rel=5e-4)


def test_the_largest_eigenvalue_is_not_the_largest_in_size() -> None:
    curvatures = torch.tensor([-50.0, *([1.0] * 40), 3.0])

    class Bowl(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(torch.zeros(42))

        def forward(self, images: Tensor) -> Tensor:
            return (curvatures * self.place.square()).sum() / 2 + 0 * images.sum()

    model = Bowl()
    surface = LossSurface(
        model,
        {"all": [model.place]},
        [(torch.ones(1), torch.zeros(1))],
        batchnorm="training",
        loss=lambda found, labels: found,
    )

    assert largest_eigenvalue(surface, [model.place], seed=0) == pytest.approx(3, rel=1e-6)
    found = measure_curvature(surface, seed=0, num_vectors=1)
    assert found.hessian_trace == {"whole": pytest.approx(-7), "all": pytest.approx(-7)}  # a diagonal: no error
    assert found.sam_sharpness == {"whole": 0, "all": 0}  # no gradient, no direction


def test_nothing_is_changed() -> None:
    model = small_model().train()
    model[0][1].eval()  # somebody's own choice
    loss_of(model, batches_of()).backward()
    before = copy.deepcopy(model.state_dict()), [p.grad.clone() for p in model.parameters() if p.grad is not None]
    modes, stream, array_stream = [m.training for m in model.modules()], torch.get_rng_state(), np.random.get_state()

    surface = LossSurface(model, layer_groups(model), batches_of(), batchnorm="training")
    measure_curvature(surface, seed=0, num_vectors=2)

    assert all(torch.equal(value, before[0][name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before[1], strict=True) if p.grad is not None)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), stream)
    assert np.array_equal(np.random.get_state()[1], array_stream[1])  # type: ignore[arg-type,index]


def test_what_cannot_be_measured_is_refused() -> None:
    model = small_model()
    groups = layer_groups(model)
    with pytest.raises(ValueError, match="a loss needs examples, got no batches"):
        LossSurface(model, groups, [], batchnorm="training")
    with pytest.raises(ValueError, match="may not be named 'whole'"):
        LossSurface(model, {"whole": groups["1"]}, batches_of(), batchnorm="training")
    surface = LossSurface(model, groups, batches_of(), batchnorm="training")
    with pytest.raises(ValueError, match=r"num_vectors must be >= 1 and rho > 0, got 0 and 0\.05"):
        measure_curvature(surface, seed=0, num_vectors=0)
    with torch.no_grad():
        model[1].weight.fill_(math.inf)
    with pytest.raises(CurvatureError, match="not finite at these weights"):
        measure_curvature(surface, seed=0)


def test_a_loss_without_curvature_has_none() -> None:
    model = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 2))
    with torch.no_grad():
        model[0].bias.fill_(-100)  # dead
    surface = LossSurface(
        model, layer_groups(model), [(torch.randn(8, 20), torch.zeros(8, dtype=torch.int64))], batchnorm="training"
    )
    found = measure_curvature(surface, seed=0, num_vectors=1)
    assert (found.hessian_max["0"], found.hessian_trace["0"], found.sam_sharpness["0"]) == (0, 0, 0)
    assert found.hessian_max["whole"] > 0  # the biases of the last layer
