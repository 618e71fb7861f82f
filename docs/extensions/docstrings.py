"""Docstrings as they are written here, for Sphinx: text with formulas, `code`, lists, and sections after Google's.

What is indented is shown as it stands. Nothing else is markup, so |g| and x_i mean what they say.
"""

import re
from collections.abc import Iterator
from itertools import groupby

from sphinx.application import Sphinx

SECTION = re.compile(r"(Args|Returns|Raises|Yields|Source):(?: (.*))?")
ARGUMENT = re.compile(r" {4}(\*{0,2}\w+): (.*)")


def to_rst(lines: list[str]) -> Iterator[str]:
    """The lines of one docstring in reStructuredText."""
    rest = list(lines)
    while rest:
        line = rest.pop(0)
        if found := SECTION.fullmatch(line):
            body = [rest.pop(0) for _ in range(_num_indented(rest))]
            yield ""
            yield from _arguments(body) if found[1] == "Args" else _field(found[1], [found[2] or "", *body])
        elif line.startswith("    "):
            body = [line, *(rest.pop(0) for _ in range(_num_indented(rest)))]
            yield from ("", "::", "", *body, "")
        elif line.startswith("- "):
            yield from ("", *_item(line, [rest.pop(0) for _ in range(_num_indented(rest, width=2))]))
        else:
            yield _text(line)


def _num_indented(lines: list[str], *, width: int = 4) -> int:
    """How many of the lines, from the first on, are indented."""
    indented = [line.startswith(" " * width) for line in lines]
    return next((number for number, is_so in enumerate(indented) if not is_so), len(lines))


def _arguments(body: list[str]) -> Iterator[str]:
    name = ""

    def key(line: str) -> str:
        nonlocal name
        name = found[1] if (found := ARGUMENT.fullmatch(line)) else name
        return name

    for argument, described in groupby(body, key):
        first, *more = [line.strip() for line in described]
        yield from _field(f"param {argument}", [first.partition(": ")[2], *more])


def _field(name: str, body: list[str]) -> Iterator[str]:
    yield f":{name}: {_text(' '.join(line.strip() for line in body).strip())}"


def _item(first: str, more: list[str]) -> list[str]:
    return [f"- {_text(' '.join([first[2:], *(line.strip() for line in more)]))}"]


def _text(line: str) -> str:
    """Words and formulas: nothing in them is markup but `code`."""
    words = re.split(r"`([^`]+)`", line)
    words[::2] = [re.sub(r"([\\*|_`])", r"\\\1", word) for word in words[::2]]
    words[1::2] = [
        f"``{word}``" + "\\ " * after[:1].isalnum() for word, after in zip(words[1::2], words[2::2], strict=True)
    ]
    return "".join(words)


def _process(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    lines[:] = to_rst(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}
