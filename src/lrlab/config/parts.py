"""What every part of a configuration is made of: checked fields, and errors that name the nearest word."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _whole(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100, since resolve() follows links


WholePath = Annotated[Path, Field(strict=False), AfterValidator(_whole)]
"""From the root on, so that a run's configuration means the same place from anywhere."""


class ConfigError(ValueError):
    """The configuration asks for something that is unknown or impossible."""

    exit_code: ClassVar[int] = 2


class Part(BaseModel):
    """One table of the configuration; unknown keys, nan and infinities are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence for a name that does not exist: what is known, and the nearest of it."""
    names = list(known)
    return f"Unknown {kind} '{name}'. Known: {', '.join(names)}.{did_you_mean(name, names)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the question after the nearest known name, to follow a sentence; empty where none is near."""
    found = nearest(name, known)
    return "" if found is None else f" Did you mean '{found}'?"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is the same but for its capitals, or else much like it; None where none is."""
    names = list(known)
    same = (one for one in names if one.casefold() == name.casefold())
    return next(same, None) or next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.5)), None)
