import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lrlab.gradients import ROW, group_changes, group_norms, group_products, group_sizes, group_sums, row_sums


def twin(group: list[Tensor]) -> list[float]:
    """Sum g^2, sum |g| and max |g|, number by number in float64."""
    numbers = [float(value) for tensor in group for value in tensor.flatten()]
    return [sum(n * n for n in numbers), sum(map(abs, numbers)), max(map(abs, numbers), default=0.0)]


@given(
    sizes=st.lists(st.lists(st.integers(0, 50), max_size=4), min_size=1, max_size=5).filter(
        lambda groups: any(map(any, groups))
    ),
    seed=st.integers(0, 1000),
)
@settings(deadline=None)
def test_group_sums_agree_with_a_float64_twin(sizes: list[list[int]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    groups = [[torch.randn(size, generator=generator) for size in group] for group in sizes]
    for sums, group in zip(group_sums(groups).T.tolist(), groups, strict=True):
        assert sums == pytest.approx(twin(group), rel=1e-5)


def test_millions_of_numbers_are_added_up_without_losing_digits() -> None:
    """torch's own norm of so long a vector is off by 1e-4."""
    large = torch.randn(512, 512, 3, 3, generator=torch.Generator().manual_seed(0))
    wide = large.double().flatten()

    squares, magnitudes, _ = group_sums([[large]]).flatten().tolist()
    other = torch.randn(512, 512, 3, 3, generator=torch.Generator().manual_seed(1)) + large
    laid_otherwise = other.to(memory_format=torch.channels_last)
    products = group_products([[large], [], [large, large]], [[laid_otherwise], [], [other, laid_otherwise]])
    changes = group_changes([[large], []], [[laid_otherwise], []])

    assert squares == pytest.approx(wide.square().sum().item(), rel=1e-5)
    assert magnitudes == pytest.approx(wide.abs().sum().item(), rel=1e-5)
    assert group_norms([[large], [large, large]]).tolist() == pytest.approx(
        [wide.norm().item(), 2**0.5 * wide.norm().item()], rel=1e-5
    )
    others = other.double().flatten()
    expected = [(wide @ others).item(), (wide @ wide).item(), (others @ others).item()]
    for group, factor in enumerate((1, 0, 2)):
        assert products[:, group].tolist() == pytest.approx([factor * value for value in expected], rel=1e-5)
    assert changes[:, 0].tolist() == pytest.approx([(others - wide).square().sum().item(), expected[1]], rel=1e-5)
    assert changes[:, 1].tolist() == [0, 0]


def test_group_sums_by_hand() -> None:
    sums = group_sums([[torch.tensor([3.0]), torch.tensor([[-4.0]])], [], [torch.tensor([-2.0])]])
    assert sums.tolist() == [[25.0, 0.0, 4.0], [7.0, 0.0, 2.0], [4.0, 0.0, 2.0]]


def test_the_order_in_memory_does_not_matter() -> None:
    image = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    tensors = [image, image.to(memory_format=torch.channels_last), image.transpose(1, 3), image[:, :, ::2]]
    for tensor, sums in zip(tensors, group_sums([[tensor] for tensor in tensors]).T.tolist(), strict=True):
        assert sums == pytest.approx(twin([tensor]), rel=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_shows_in_its_group_alone(value: float) -> None:
    sums = group_sums([[torch.tensor([1.0, value])], [torch.tensor([2.0])]])
    assert sums[:, 0].isfinite().tolist() == [False] * 3
    assert sums[:, 1].tolist() == [4.0, 2.0, 2.0]


def test_low_precision_is_summed_in_float32() -> None:
    ones = torch.ones(1_000_000, dtype=torch.bfloat16)  # bfloat16 sums would stop growing at 256
    assert group_sums([[ones]]).flatten().tolist() == pytest.approx([1e6, 1e6, 1.0])
    assert row_sums(ones[: 2 * ROW].view(2, ROW), [1, 1]).tolist() == [[ROW] * 2, [ROW] * 2, [1.0] * 2]


def test_tensors_of_two_precisions_are_summed_in_the_higher() -> None:
    sums = group_sums([[torch.tensor([3.0])], [torch.tensor([4.0], dtype=torch.float64)]])
    assert sums.dtype == torch.float64
    assert sums.tolist() == [[9.0, 16.0], [3.0, 4.0], [3.0, 4.0]]


def test_row_sums_are_the_group_sums_of_the_rows() -> None:
    rows = torch.randn(5, ROW, generator=torch.Generator().manual_seed(0))
    groups = [[rows[:1]], [rows[1:4]], [rows[4:]]]
    for sums, group in zip(row_sums(rows, [1, 3, 1]).T.tolist(), groups, strict=True):
        assert sums == pytest.approx(twin(group), rel=1e-6)


def test_group_sizes() -> None:
    assert group_sizes([[torch.zeros(2, 3), torch.zeros(4)], []]).tolist() == [10.0, 0.0]
