"""Where a person reads and a program reads: lines on the console, one JSON document on stdout. No torch."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console


class Screen:
    """Says lines, and gives a document.

    Args:
        json: whether a JSON document is wanted on stdout; all else then goes to stderr.
    """

    def __init__(self, *, json: bool) -> None:
        self.console = Console(stderr=json)
        self._wants_document = json

    def say(self, text: str) -> None:
        """Print a line as it is: names in it are not markup."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def document(self, document: dict[str, Any]) -> None:
        """Print a JSON document on stdout, where one is wanted."""
        if self._wants_document:
            sys.stdout.write(json_module.dumps(document, allow_nan=False) + "\n")


def class_rows(accuracies: Iterable[tuple[str, float | None]], *, num_columns: int = 5) -> list[str]:
    """Lay the accuracies of classes out in columns; of one without examples it is not known."""
    cells = [f"{name[:14]} {'n/a' if share is None else format(share, '.0%')}" for name, share in accuracies]
    width = max(map(len, cells), default=0) + 2
    rows = (cells[start : start + num_columns] for start in range(0, len(cells), num_columns))
    return ["  " + "".join(cell.ljust(width) for cell in row).rstrip() for row in rows]
