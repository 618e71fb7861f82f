"""Files that are read: regular ones, and TOML in them."""

from __future__ import annotations

import errno
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

from lrlab.config.parts import ConfigError


def check_regular(path: Path) -> None:
    """Check that a path leads to a regular file: a pipe would be waited for, and a device read, without end.

    Raises: OSError; FileNotFoundError if it leads nowhere.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file, but a pipe or a device", str(path))


def read_file(path: Path) -> bytes:
    """Read a regular file whole.

    Raises: as `check_regular`.
    """
    check_regular(path)
    return path.read_bytes()


def read_toml(path: Path, *, may_be_pipe: bool = False) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: of it.
        may_be_pipe: whether it may be one that a shell made, as in `--config <(...)`.
    Raises: ConfigError if it is not there or is not TOML.
    """
    try:
        content = path.read_bytes() if may_be_pipe else read_file(path)
        return tomllib.loads(content.decode().removeprefix("\ufeff"))  # with which some editors begin
    except (FileNotFoundError, IsADirectoryError) as error:
        what = "is a folder, not a file" if path.is_dir() else "there is no such file"
        folder = path if path.is_dir() else path.parent
        files = [str(file) for file in sorted(folder.glob("*.toml"))]
        shown = ", ".join([*files[:5], *([f"and {len(files) - 5} more"] if len(files) > 5 else [])]) or "none"
        shown = "".join(letter if letter.isprintable() else "?" for letter in shown)  # nobody typed these names
        raise ConfigError(f"{path}: {what}. TOML files in {folder}: {shown}.") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, or so many brackets, are errors too
        other = {".yaml": "YAML", ".yml": "YAML", ".json": "JSON"}.get(path.suffix.lower())
        hint = f" It looks like {other}; lrlab reads TOML, as in key = value." if other else ""
        raise ConfigError(f"{path}: not valid TOML ({error}).{hint}") from error
