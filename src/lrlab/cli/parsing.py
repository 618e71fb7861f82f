"""How a command line is read and refused: cyclopts, with errors in two lines and help in two columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from cyclopts import (
    App,
    Argument,
    ArgumentCollection,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    Token,
    UnknownCommandError,
    UnusedCliTokensError,
    ValidationError,
    convert,
)
from cyclopts.help import PlainFormatter

if TYPE_CHECKING:  # at run time these would load rich, which errors and most verbs do not need
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions


class TwoColumns(PlainFormatter):
    """Help as aligned plain text: no boxes, no colour, at the terminal's width."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print one group of commands or options."""
        rows = [
            (
                "  " + ", ".join(entry.display_labels_with_metavar),
                " ".join("".join(segment.text for segment in console.render(entry.description, options)).split())
                + " (required)" * (entry.required and panel.title != "Arguments"),
            )
            for entry in panel.entries
        ]
        left = max((len(label) for label, _ in rows), default=0) + 2
        lines = [
            textwrap.fill(text, options.max_width, initial_indent=label.ljust(left), subsequent_indent=" " * left)
            for label, text in rows
        ]
        if lines:
            console.print(f"{panel.title}:", *lines, "", sep="\n", highlight=False, markup=False, soft_wrap=True)


def make_app(**options: Any) -> App:
    """Make an application whose errors are raised and whose options have no --no-x twin."""
    return App(
        version_flags=["--version"],
        help_format="plaintext",
        help_formatter=TwoColumns(),
        default_parameter=Parameter(negative=(), converter=_as_written, show_default=False),
        print_error=False,
        exit_on_error=False,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        **options,
    )


def _as_written(target: type, tokens: Sequence[Token]) -> Any:
    """Convert what was typed; cyclopts alone would round 3.5 to 4 and read none as "not given"."""
    for token in tokens:
        if int in (target, *get_args(target)) and not re.fullmatch(r"[+-]?[0-9]+", token.value):
            raise ValueError(f"{token.value!r} is not a whole number.")
    return convert(target, tokens)  # target comes without None, so the word none is refused too


def at_most_one(arguments: ArgumentCollection) -> None:
    """Refuse two options of a group of which one may be given."""
    given = [argument.name for argument in arguments if argument.has_tokens]
    if len(given) > 1:
        raise ValueError(f"Give {' or '.join(given)}, not both.")


def at_least_one(kind: type, value: int | None) -> None:
    """Refuse a number of things that must be there."""
    if value is not None and value < 1:
        raise ValueError(f"must be at least 1, got {value}.")


def explain(error: CycloptsError, app: App) -> str:
    """Say in two lines what was wrong with a command line and where its help is."""
    verb = " ".join(["lrlab", *(error.command_chain or ())])
    error.command_chain = None  # the first words name the verb already
    match error:
        case UnknownCommandError(unused_tokens=[token, *_]) if token.startswith("-"):
            text = f"Unknown option {token!r}. Options come after the command, as in lrlab runs --json."
        case UnknownCommandError(unused_tokens=[token, *_]):
            known = [name for name in error.app or app if not name.startswith("-")]
            near = get_close_matches(token, known, n=1)
            text = f"Unknown command {token!r}."
            text += f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(known)}."
        case UnusedCliTokensError(unused_tokens=[token, *_]):
            text = f"Unexpected argument {token!r}."
            if token.endswith(".toml") and verb in ("lrlab train", "lrlab lr-find"):
                text += f" Pass a configuration file as --config {token}."
        case ValidationError(exception_message=str(message)) if error.group:
            text = message
        case MissingArgumentError(argument=Argument(tokens=[], name=name, parameter=parameter), keyword=None):
            hint = str(error).partition(" Did you mean")
            what = (
                f"{name} {parameter.metavar} is missing."
                if parameter.metavar
                else f"{name} is missing: {parameter.help}"
            )
            text = what + hint[1] + hint[2]
        case _:
            text = str(error)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return f"{verb}: {text}\nSee '{verb} --help'."
