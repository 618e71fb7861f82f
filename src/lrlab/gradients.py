"""Pure functions on lists of gradients; their results stay on the device, and nothing is synchronised."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WHOLE = "whole"
"""Name of all layer groups together, where they are measured as one."""
ROW = 1024
"""Numbers in a row of `row_sums`: enough to keep a vector unit busy, few enough to add up without losing digits."""
PIECE = 131_072
"""Longest vector that a norm is taken of at once: of two million float32 numbers torch loses three of seven digits."""
BLOCK = 4 * PIECE
"""Numbers that several things are done to at once: few enough for a processor's cache, enough to be worth the calls."""


def group_sums(groups: Sequence[Sequence[Tensor]]) -> Tensor:
    """What the size of a gradient is told by: sum g^2, sum |g| and max |g| of each group of tensors.

    Three multi-tensor passes over the numbers, whatever the number of groups; `row_sums` needs one, but a compiler.

    Args:
        groups: for each group its tensors, of any shapes, on one device; a group may be empty, all may not.
    Returns: (3, len(groups)) float32, or float64 if any tensor is; an empty group has zeros.
    """
    pieces = [_pieces(group) for group in groups]
    numbers, tensors = [len(group) for group in pieces], [piece for group in pieces for piece in group]
    dtype = _dtype(tensors)
    squares = torch.stack(torch._foreach_norm(tensors, 2, dtype=dtype)).square()
    magnitudes = torch.stack(torch._foreach_norm(tensors, 1, dtype=dtype))
    parts = _largest(tensors).to(dtype).split(numbers)
    largest = torch.stack([part.amax() if len(part) else part.sum() for part in parts])  # the sum of nothing is zero
    return torch.stack([_sum_by_group(squares, numbers), _sum_by_group(magnitudes, numbers), largest])


def row_sums(rows: Tensor, num_rows: Sequence[int]) -> Tensor:
    """The same of gradients that lie in one tensor: one pass over them, where torch.compile has fused the three sums.

    Rows are added up first: a compiled sum over millions of numbers spends more on keeping its digits than on reading.

    Args:
        rows: (R, ROW), group after group, the last row of each filled up with zeros.
        num_rows: of each group; their sum is R.
    Returns: (3, len(num_rows)), float32 for half-precision rows, else of their type.
    """
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    magnitudes = rows.abs()
    parts = [rows.square().sum(1), magnitudes.sum(1), magnitudes.amax(1)]  # (R,) each
    squares, sums, largest = (part.split(list(num_rows)) for part in parts)
    return torch.stack(
        [
            torch.stack([part.sum() for part in squares]),
            torch.stack([part.sum() for part in sums]),
            torch.stack([part.amax() for part in largest]),
        ]
    )


def group_norms(groups: Sequence[Sequence[Tensor]]) -> Tensor:
    """L2 norm of each group of tensors.

    Args:
        groups: for each group its tensors, of any shapes, on one device; a group may be empty, all may not.
    Returns: (len(groups),) float32, or float64 if any tensor is; an empty group has zero.
    """
    pieces = [_pieces(group) for group in groups]
    tensors = [piece for group in pieces for piece in group]
    norms = torch.stack(torch._foreach_norm(tensors, 2, dtype=_dtype(tensors)))
    return _sum_by_group(norms.square(), [len(group) for group in pieces]).sqrt()


def group_products(ones: Sequence[Sequence[Tensor]], others: Sequence[Sequence[Tensor]]) -> Tensor:
    """<a, b>, |a|^2 and |b|^2 of each group of tensors a and another one b of the same shapes.

    Returns: (3, len(ones)), in `group_norms`' dtype; an empty group has zeros.
    """

    def products(a: Tensor, b: Tensor, product: Tensor) -> list[Tensor]:
        torch.mul(a, b, out=product)
        return [product.sum(), _square(a), _square(b)]

    return _by_blocks(ones, others, products, 3)


def group_changes(before: Sequence[Sequence[Tensor]], after: Sequence[Sequence[Tensor]]) -> Tensor:
    """|b - a|^2 and |a|^2 of each group of tensors a, before, and b, after a change.

    Returns: (2, len(before)), in `group_norms`' dtype; an empty group has zeros.
    """

    def changes(a: Tensor, b: Tensor, change: Tensor) -> list[Tensor]:
        torch.sub(b, a, out=change)
        return [_square(change), _square(a)]

    return _by_blocks(before, after, changes, 2)


def vector_products(ones: Sequence[Sequence[Tensor]], others: Sequence[Sequence[Tensor]]) -> Tensor:
    """`group_products` of groups of one vector each: one pass over them, where torch.compile has fused the sums."""
    found = [
        torch.stack([_sum_by_rows(a * b), _sum_by_rows(a.square()), _sum_by_rows(b.square())])
        for (a,), (b,) in zip(ones, others, strict=True)
    ]
    return torch.stack(found, dim=1)


def vector_changes(before: Sequence[Sequence[Tensor]], after: Sequence[Sequence[Tensor]]) -> Tensor:
    """`group_changes` of groups of one vector each: one pass over them, where torch.compile has fused the sums."""
    found = [
        torch.stack([_sum_by_rows((b - a).square()), _sum_by_rows(a.square())])
        for (a,), (b,) in zip(before, after, strict=True)
    ]
    return torch.stack(found, dim=1)


def group_sizes(groups: Sequence[Sequence[Tensor]]) -> Tensor:
    """How many numbers each group of tensors holds: (len(groups),) float64 on the CPU."""
    return torch.tensor(
        [sum(tensor.numel() for tensor in group) for group in groups], dtype=torch.float64, device="cpu"
    )


def _dtype(tensors: Sequence[Tensor]) -> torch.dtype:
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def _pieces(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The numbers of some tensors in vectors that are short enough for a norm: none of no numbers."""
    return [piece for tensor in tensors if tensor.numel() for piece in _as_vector(tensor).split(PIECE)]


@torch.no_grad()
def _by_blocks(
    ones: Sequence[Sequence[Tensor]],
    others: Sequence[Sequence[Tensor]],
    measure: Callable[[Tensor, Tensor, Tensor], list[Tensor]],
    num_results: int,
) -> Tensor:
    """Sums over the blocks of each group of what `measure` finds in two blocks; it may write to a third of that size.

    Block by block, numbers are read from memory once and are in the cache for all that is done to them.
    """
    dtype = _dtype([tensor for group in ones for tensor in group])
    longest = max((tensor.numel() for group in ones for tensor in group), default=0)
    room = next((tensor for group in ones for tensor in group), torch.empty(0)).new_empty(0, dtype=dtype)
    sums = []
    for group, others_of_group in zip(ones, others, strict=True):
        found = []
        for one, other in zip(group, others_of_group, strict=True):
            # blocks must hold the same elements, so the tensors must lie in memory in the same order
            alike = other if other.stride() == one.stride() else torch.empty_like(one).copy_(other)
            a, b = _as_vector(one).to(dtype), _as_vector(alike).to(dtype)
            length = min(BLOCK, longest) if a.device.type == "cpu" else longest  # a GPU gains nothing by blocks
            room = room if len(room) else a.new_empty(length)
            blocks = zip(a.split(length), b.split(length), strict=True) if length else ()
            found += [torch.stack(measure(x, y, room[: len(x)])) for x, y in blocks]
        sums.append(torch.stack(found).sum(0) if found else room.new_zeros(num_results, dtype=dtype))
    return torch.stack(sums, dim=1)


def _sum_by_rows(vector: Tensor) -> Tensor:
    """The sum, (), of rows' sums, for the reason that `row_sums` has."""
    end = len(vector) // ROW * ROW
    return vector[:end].view(-1, ROW).sum(1).sum() + vector[end:].sum()


def _square(vector: Tensor) -> Tensor:
    """|v|^2, ()."""
    return torch.stack(torch._foreach_norm(list(vector.split(PIECE)))).square().sum()


def _as_vector(tensor: Tensor) -> Tensor:
    """The numbers of a tensor, in the order of memory: a pass over strides takes ten times as long.

    Raises: ValueError for one that is not dense.
    """
    if tensor.layout != torch.strided:
        raise ValueError(
            f"gradients and weights must be dense, got one of layout {tensor.layout}: make the "
            "embedding with sparse=False, or leave its parameters out of the groups."
        )
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(-1)


def _largest(tensors: list[Tensor]) -> Tensor:
    """Largest magnitude in each tensor, (len(tensors),)."""
    if tensors[0].device.type == "cpu":  # the multi-tensor maximum norm takes sixteen times as long there
        bounds = [torch.aminmax(tensor) for tensor in tensors]
        return torch.stack([torch.maximum(-least, largest) for least, largest in bounds])
    return torch.stack(torch._foreach_norm(tensors, float("inf")))


def _sum_by_group(values: Tensor, numbers: Sequence[int]) -> Tensor:
    """Sums of the first so many values, of the next, ..."""
    return torch.stack([part.sum() for part in values.split(list(numbers))])
