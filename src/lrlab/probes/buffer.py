"""Rows of numbers that wait on the device until somebody asks for them."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS_PER_CHUNK = 1024
"""Rows that memory is set aside for at once: more than are measured between two flushes by default."""


class RowBuffer:
    """Rows of one shape, in memory of the device set aside in chunks of ROWS_PER_CHUNK.

    The owner counts the rows and says where one goes. So its count alone says what is here: a row that was written when
    an interrupt came, and is not counted yet, is written over by the next.
    """

    def __init__(self) -> None:
        self._chunks: list[Tensor] = []
        self._places: list[Tensor] = []  # a view of each row, since making one takes longer than writing to it
        self._dtype: torch.dtype | None = None  # of the rows as they come
        self._device: torch.device | None = None
        self._kept_as = torch.float32

    def put(self, position: int, row: Tensor) -> None:
        """Write one row; nothing waits for the device.

        Args:
            position: row to write, at most one behind the last.
            row: of the shape of all others. The buffer takes its dtype, float32 at least, and its device from the
                first row, and follows when these change.
        """
        if row.dtype is not self._dtype or row.device != self._device:
            self._follow(row)
        if position == len(self._places):
            self._hold(row.new_empty((ROWS_PER_CHUNK, *row.shape), dtype=self._kept_as))
        self._places[position].copy_(row.detach() if row.requires_grad else row)

    def rows(self, num_rows: int) -> Tensor:
        """Return a copy of the first rows, (num_rows, ...), on the device; num_rows >= 1."""
        full, left = divmod(num_rows, ROWS_PER_CHUNK)
        return torch.cat([*self._chunks[:full], *(chunk[:left] for chunk in self._chunks[full : full + 1])])

    def _hold(self, chunk: Tensor) -> None:
        self._chunks.append(chunk)
        self._places += chunk.unbind()

    def _follow(self, row: Tensor) -> None:
        """Take over dtype and device of the rows that come now; what is here keeps its value."""
        self._dtype, self._device = row.dtype, row.device
        self._kept_as = torch.promote_types(row.dtype, self._kept_as)
        chunks, self._chunks, self._places = self._chunks, [], []
        for chunk in chunks:
            self._hold(chunk.to(row.device, self._kept_as))
