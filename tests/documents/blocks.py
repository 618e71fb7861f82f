"""The code blocks of a page, and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```(\S*)\n(.*?)^```$", re.M | re.S)
EXIT_CODE = re.compile(r"#.*\bexit code (\d+)")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    place: str
    """Page and line, for whoever looks for it."""


@dataclass(frozen=True)
class Command:
    """One command of a console block, its comment taken off."""

    words: list[str]
    exit_code: int
    """0 unless the comment says `exit code N`."""
    is_interrupted: bool
    """Whether the comment says that Ctrl-C ends it."""


def blocks(page: Path, *, name: str) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(found[1], found[2], f"{name}:{text.count(chr(10), 0, found.start()) + 1}")
        for found in BLOCK.finditer(text)
    ]


def commands(block: Block) -> list[Command]:
    """The commands of a console block: lines that begin with $, each perhaps several joined by && or ;."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        if not line.startswith("$ "):
            continue  # what the command printed
        said = EXIT_CODE.search(line)
        lexer = shlex.shlex(line[2:], posix=True, punctuation_chars="&;|<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in ("&&", ";"):
                words.append(word)
            elif words:
                found.append(Command(words, int(said[1]) if said else 0, "Ctrl-C" in line))
                words = []
    return found
