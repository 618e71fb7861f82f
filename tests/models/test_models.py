import copy

import pytest
import torch
from torch import nn

from lrlab.models import layer_groups, resnet18, resnet34


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_resnet18_has_the_known_number_of_parameters() -> None:
    assert num_parameters(resnet18(num_classes=10)) == 11_173_962


def test_resnet34_has_the_known_number_of_parameters() -> None:
    assert num_parameters(resnet34(num_classes=10)) == 21_282_122


def test_layer_groups_are_the_articles() -> None:
    assert list(layer_groups(resnet18(num_classes=10, width=4))) == [
        "stem",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
        "linear",
    ]


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32), (3, 33)])
def test_any_channels_and_sizes_give_logits(channels: int, side: int) -> None:
    model = resnet18(num_classes=7, in_channels=channels, width=4)
    assert model(torch.zeros(2, channels, side, side)).shape == (2, 7)


def test_sizes_halve_and_planes_double_from_layer_to_layer() -> None:
    model = resnet18(num_classes=10, width=4)
    out = model.stem(torch.zeros(1, 3, 32, 32))
    shapes = [out.shape[1:]]
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        out = layer(out)
        shapes.append(out.shape[1:])
    assert [tuple(shape) for shape in shapes] == [(4, 32, 32), (4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4)]


def test_shortcuts_are_1x1_convolutions_where_the_shape_changes_and_only_there() -> None:
    model = resnet18(num_classes=10, width=4)
    kernels = {
        name: module.kernel_size
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and "shortcut" in name
    }
    assert kernels == {f"layer{n}.0.shortcut.0": (1, 1) for n in (2, 3, 4)}


def test_a_block_is_relu_of_f_plus_shortcut() -> None:
    torch.manual_seed(0)
    block = resnet18(num_classes=10, width=4).layer2[0].double()
    x = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    inner = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
    expected = torch.relu(inner + block.shortcut[1](block.shortcut[0](x)))
    block.load_state_dict(block.state_dict())
    assert torch.allclose(block(x), expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("planes", "side"), [(2, 16), (4, 16), (7, 4), (8, 16), (12, 16), (15, 16), (16, 8), (20, 16)])
def test_gradients_of_shortcuts_are_those_of_a_float64_twin(planes: int, side: int, threads: int) -> None:
    # oneDNN's own of a strided 1x1 convolution of few planes are none, and come with others' memory written over
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        shortcut = resnet18(num_classes=10, width=planes).layer2[0].shortcut[0]
        twin = copy.deepcopy(shortcut).double()
        shortcut.to(memory_format=torch.channels_last)
        for seed in range(5):
            torch.manual_seed(seed)
            x = torch.randn(17, planes, side, side).contiguous(memory_format=torch.channels_last)
            weights = torch.randn(17, 2 * planes, side // 2, side // 2)
            for module, numbers in ((shortcut, torch.float32), (twin, torch.float64)):
                module.zero_grad()
                (module(x.to(numbers)) * weights.to(numbers)).sum().backward()
            torch.testing.assert_close(shortcut.weight.grad.double(), twin.weight.grad, rtol=1e-4, atol=1e-4)
    finally:
        torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
def test_a_compiled_model_has_the_groups_of_its_own() -> None:
    model = resnet18(num_classes=10, width=2)
    assert layer_groups(torch.compile(model)) == layer_groups(model)  # type: ignore[arg-type]


def test_groups_by_pattern_take_the_first_match() -> None:
    groups = layer_groups(resnet18(num_classes=10, width=4), {"norms": r"\bbn\d|stem\.1", "rest": ".*"})
    assert list(groups) == ["norms", "rest"]
    assert all(parameter.ndim == 1 for parameter in groups["norms"])


def test_frozen_parameters_are_in_no_group() -> None:
    model = resnet18(num_classes=10, width=4)
    model.stem.requires_grad_(False)
    assert "stem" not in layer_groups(model)


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"groups that match nothing: \['head'\]"):
        layer_groups(resnet18(num_classes=10, width=4), {"all": ".*", "head": "head"})


def test_a_parameter_in_no_group_is_refused() -> None:
    with pytest.raises(ValueError, match=r"in no group: \['linear.weight', 'linear.bias'\]"):
        layer_groups(resnet18(num_classes=10, width=4), {"most": "stem|layer"})


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'layer.12' is not a valid regular expression .unterminated"):
        layer_groups(resnet18(num_classes=10, width=4), {"all": "layer[12"})


def test_a_models_own_parameters_are_a_group_of_their_own() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.linear = nn.Linear(2, 2)

    assert {name: len(group) for name, group in layer_groups(Scaled()).items()} == {"model": 1, "linear": 2}
