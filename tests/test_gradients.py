import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrlab.gradients import group_l2_norms, group_sizes


@given(
    sizes=st.lists(st.lists(st.integers(1, 50), max_size=4), min_size=1, max_size=5).filter(any),
    seed=st.integers(0, 1000),
)
@settings(deadline=None)
def test_group_norms_agree_with_a_float64_twin(sizes: list[list[int]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    groups = [[torch.randn(size, generator=generator) for size in group] for group in sizes]
    twin = [sum(float(value) ** 2 for tensor in group for value in tensor) ** 0.5 for group in groups]
    assert group_l2_norms(groups).tolist() == pytest.approx(twin, rel=1e-5)


def test_group_norm_by_hand() -> None:
    norms = group_l2_norms([[torch.tensor([3.0]), torch.tensor([[4.0]])], [], [torch.tensor([-2.0])]])
    assert norms.tolist() == [5.0, 0.0, 2.0]


def test_low_precision_is_summed_in_float32() -> None:
    ones = torch.ones(1_000_000, dtype=torch.bfloat16)  # bfloat16 sums would stop growing at 256
    assert group_l2_norms([[ones]]).tolist() == pytest.approx([1000.0])


def test_tensors_of_two_precisions_are_summed_in_the_higher() -> None:
    norms = group_l2_norms([[torch.tensor([3.0])], [torch.tensor([4.0], dtype=torch.float64)]])
    assert norms.dtype == torch.float64
    assert norms.tolist() == [3.0, 4.0]


def test_group_sizes() -> None:
    assert group_sizes([[torch.zeros(2, 3), torch.zeros(4)], []]).tolist() == [10.0, 0.0]
