"""From the options of `lrlab train` to a configuration: a file below, flags above it, and --set on top."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

from lrlab.config import ConfigError, DataConfig, RunConfig, merge, parse_config, read_setting, read_toml
from lrlab.runs import StorageError
from lrlab.runs.storage import storage_errors
from lrlab.studies.ray import Resources


def read_config(file: Path | None, flags: dict[str, Any], settings: list[str] | None) -> RunConfig:
    """Layer a configuration and check it.

    Args:
        file: --config, if any.
        flags: dotted key -> value of the flags; None for those not given.
        settings: the KEY=VALUE of each --set, in order.
    """
    table = read_toml(file, may_be_pipe=True) if file else {}
    if file is not None and "arms" in table:
        raise ConfigError(f"{file}: this is a study file, since it has arms. Run it with lrlab study.")
    for key, value in flags.items():
        if value is not None:
            table = merge(table, _nested(key, value))
    above = {name: f"--{name}" for name in ("epochs", "steps") if flags.get(name) is not None}
    for setting in settings or []:
        over = read_setting(setting)
        above |= {name: f"--set {name}" for name in ("epochs", "steps") if name in over}
        table = merge(table, over)
    if len(above) > 1:  # one replaces the other of a file, but not of the same command
        raise ConfigError(f"Give epochs or steps, not both: got {' and '.join(above.values())}.")
    return parse_config(table)


def data_flags(data: str | None, data_dir: Path | None) -> dict[str, Any]:
    """Return the keys behind --data NAME or folder:DIR, and --data-dir."""
    name, colon, directory = (data or "").partition(":")
    if colon and name == "folder":
        if not directory:
            raise ConfigError("--data folder: the folder is missing. Name it, as in --data folder:DIR.")
        if data_dir:
            raise ConfigError("--data folder:DIR already names the folder: leave --data-dir out.")
        _check_text(directory)
        return {"data.name": "folder", "data.dir": directory}
    if data_dir is not None:
        _check_text(str(data_dir))
    if name and not colon and name not in get_args(DataConfig.model_fields["name"].annotation) and Path(name).is_dir():
        raise ConfigError(f"--data {name}: for a folder of images, write --data folder:{name}.")
    return {"data.name": data, "data.dir": str(data_dir) if data_dir else None}


def _check_text(directory: str) -> None:
    try:
        str(Path(directory).absolute()).encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(directory).decode(errors="replace")
        raise ConfigError(
            f"{shown}: the path is not valid UTF-8, so config.toml cannot hold it. Rename it, or pass a link to it."
        ) from error


def check_folder(figure: Path) -> None:
    """See that a picture can be put where --figure says, before the work that it is to show.

    Raises: StorageError.
    """
    if not figure.parent.is_dir():
        raise StorageError(f"{figure.parent}: no such folder. Make it, or choose another with --figure.")


def cluster_resources(ray: str | None, *, workers: int | None, cpus: int | None, gpus: float | None) -> Resources:
    """Return what each run is given of a Ray cluster.

    Raises: ConfigError for options that do not go together.
    """
    if ray is not None and workers is not None:
        raise ConfigError("Give --workers or --ray, not both: Ray starts as many workers as there is room for.")
    if ray is None and (cpus is not None or gpus is not None):
        raise ConfigError("--cpus and --gpus apply only to runs on a Ray cluster: add --ray local or --ray ADDRESS.")
    if gpus is not None and not (0 <= gpus < 1 or (gpus >= 1 and gpus.is_integer())):
        raise ConfigError(f"--gpus must be a fraction below 1, or a whole number, got {gpus:g}.")
    return Resources(num_cpus=cpus or 1, num_gpus=gpus or 0.0)


def run_name(config: RunConfig) -> str:
    """Return a name that says what a run is: data, model, schedule and seed."""
    data = config.data.dir.resolve().name if config.data.name == "folder" and config.data.dir else config.data.name
    words = [data[:40], config.model.name, config.schedule.name[:20], f"seed{config.seed}"]
    name = "-".join(
        "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in word) for word in words
    )
    return name.strip("-")


def new_directory(root: Path, name: str) -> Path:
    """Make root/name, or root/name-2, -3, ... where that is taken: processes that begin together get one each.

    Raises: StorageError.
    """
    candidate, number = root / name, 1
    with storage_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                candidate.mkdir()
            except FileExistsError:
                number += 1
                candidate = root / f"{name}-{number}"
            else:
                return candidate


def _nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return dict(value)
