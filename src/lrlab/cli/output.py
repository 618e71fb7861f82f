"""Where what a verb has to say goes: lines and tables on the terminal, a JSON document on stdout."""

from __future__ import annotations

import json as json_module
import math
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_LEAST_NAME: Final = 16
"""Characters of a name that stay on one line, though the table may be wider than the terminal then."""
_WIDEST: Final = 1_000
_MOST_CLASSES: Final = 50
"""Classes whose accuracies are all shown at each evaluation."""
_COLUMNS: Final = 5
"""Of classes."""


class _Console(Console):
    """One that leaves it to `main` what a reader who has gone means."""

    def on_broken_pipe(self) -> None:
        """Raise it; rich itself would end the program with exit code 1, that of a bug."""
        raise BrokenPipeError


class Output:
    """Says what a verb has to say.

    Args:
        json: whether a JSON document is wanted on stdout; all else then goes to stderr.
        quiet: whether another process says it all.
    Raises: ConfigError where a document is wanted and stdout is closed: before the work, rather than after it.
    """

    def __init__(self, *, json: bool, quiet: bool = False) -> None:
        if json and not quiet and sys.stdout is None:
            from lrlab.config import ConfigError

            raise ConfigError(
                "--json: stdout is closed, so the document cannot be written. Leave --json out, or redirect it: >FILE."
            )
        self.console = _Console(stderr=json, quiet=quiet)
        self._wants_document = json and not quiet

    def say(self, text: str) -> None:
        """Print a line as it is: names in it are not markup."""
        self.console.print(_printable(text), markup=False, highlight=False, soft_wrap=True)

    def say_wrapped(self, text: str) -> None:
        """Print a paragraph, broken between words at the width of the terminal."""
        self.console.print(_printable(text), markup=False, highlight=False)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows of text under a header: names flush left, broken where the terminal is narrow, and numbers.

        Args:
            header: of each column.
            rows: their cells.
        """
        rows = [[_printable(cell) for cell in row] for row in rows]
        widest = max((cell_len(name) for name, *_ in rows), default=0)
        least = min(widest, _LEAST_NAME)
        shown = _table(header, rows, least=least)
        wide = self.console.options.update(width=_WIDEST)
        # what goes into a file or another program is not broken, unless it is said how wide it may be
        limit = self.console.width if self.console.is_terminal or "COLUMNS" in os.environ else _WIDEST
        missing = Measurement.get(self.console, wide, shown).maximum - limit
        if missing > 0:
            room = max(least, widest - missing)
            shown = _table(header, [[broken(name, room), *cells] for name, *cells in rows], least=least)
        needed = Measurement.get(self.console, wide, shown)
        shown.width = min(max(limit, needed.minimum), needed.maximum)  # rich itself would cut what is too wide
        self.console.print(shown, soft_wrap=True)

    def document(self, document: dict[str, Any]) -> None:
        """Print a JSON document on stdout, where one is wanted."""
        from lrlab.runs.storage import plain

        if self._wants_document:
            sys.stdout.write(json_module.dumps(plain(document), allow_nan=False) + "\n")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, least: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for index, name in enumerate(header):
        is_name = index == 0
        justify: Any = "left" if is_name else "right"
        lines = [line for text in (name, *(row[index] for row in rows)) for line in text.split("\n")]
        width = least if is_name else max(map(cell_len, lines))  # of numbers none is cut
        table.add_column(Text(name), justify=justify, overflow="fold", no_wrap=not is_name, min_width=width)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def broken(name: str, width: int) -> str:
    """Break a name into lines of at most `width` characters, after a sign between its words where there is one."""
    lines = [""]
    for word in re.findall(r"[^/ _-]+[/ _-]*|[/ _-]+", name):
        if cell_len(lines[-1]) + cell_len(word.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += word
        while cell_len(lines[-1].rstrip()) > width and len(lines[-1]) > 1:  # a word without a place to break
            head = set_cell_size(lines[-1], width).rstrip() or lines[-1][0]
            lines[-1:] = [head, lines[-1][len(head) :]]
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Put a mark where a name has a byte that is no character, or a character that moves the terminal's cursor."""
    text = text.encode(errors="surrogateescape").decode(errors="replace")
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)


def class_rows(accuracies: Sequence[tuple[str, float | None]]) -> list[str]:
    """Lay the accuracies of classes out in columns, of many those that are lowest; without examples it is not known."""
    heading, shown = [], accuracies
    if len(accuracies) > _MOST_CLASSES:
        known = [(share, name) for name, share in accuracies if share is not None and math.isfinite(share)]
        shown = [(name, share) for share, name in sorted(known)[: 2 * _COLUMNS]]
        heading = [f"  the {len(shown)} lowest of {len(accuracies)} classes:"] if shown else []
    cells = [f"{name[:14]} {'n/a' if share is None else format(share, '.0%')}" for name, share in shown]
    width = max(map(len, cells), default=0) + 2
    rows = (cells[start : start + _COLUMNS] for start in range(0, len(cells), _COLUMNS))
    return [*heading, *("  " + "".join(cell.ljust(width) for cell in row).rstrip() for row in rows)]
