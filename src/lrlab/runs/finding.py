"""Finds runs: those of a study, and all that lie in a folder."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from lrlab.config import ConfigError, read_toml
from lrlab.runs import storage
from lrlab.runs.reader import Run, read_run


def list_runs(folder: Path | str) -> list[Run]:
    """Return all runs in a folder and in the folders within, by path; what is damaged is left out, and warned of.

    Raises: RunError if there is none; StorageError if the folder may not be read.
    """
    folder = Path(folder)
    with storage.storage_errors(folder):
        # by names: a run.json that leads nowhere, or to itself, is not there for whoever asks whether it exists
        places = sorted(
            Path(place)
            for place, *names in os.walk(folder, onerror=partial(_say_if_forbidden, folder))
            if storage.INFO in chain(*names)
        )
    runs = []
    for place in places:
        try:
            runs.append(read_run(place))
        except (storage.RunError, storage.StorageError, ConfigError) as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    if not runs:
        raise storage.RunError(f"{folder}: no runs here. Make one with lrlab train, or name another folder.")
    return runs


def find_runs(path: Path | str) -> list[Run]:
    """Return the run at a path, or the runs of the study at it, by seed within arm; arms as its plan has them.

    The plan says what the study is: runs of arms or seeds that are not in it any more are left out, and warned of.

    Raises: RunError if there is neither; StorageError if they may not be read.
    """
    path = Path(path)
    with storage.storage_errors(path):
        is_run = _is_there(path / storage.INFO)
        places = [] if is_run else [one for one in path.glob("*/seed*") if _is_there(one / storage.INFO)]
    if is_run:
        return [read_run(path)]
    runs = [read_run(place) for place in places]
    if not runs:
        raise storage.RunError(f"{path}: {_what_it_is(path)}")
    try:
        plan = read_plan(path / storage.STUDY)
    except storage.RunError as error:
        warnings.warn(f"{error} Arms are listed alphabetically.", stacklevel=2)
        plan = {}
    kept = [run for run in runs if _has(plan, run.arm, run.seed)]
    if not kept:  # a rate of [tune], which lies beside a copy of the study's plan, or a plan of which nothing was run
        return sorted(runs, key=lambda run: (run.arm, run.seed))
    if others := sorted({(run.arm, run.seed) for run in runs} - {(run.arm, run.seed) for run in kept}):
        warnings.warn(f"{path}: left out, since {storage.STUDY} no longer has them: {by_arm(others)}.", stacklevel=2)
    order = {arm: place for place, arm in enumerate(plan["arms"])}
    return sorted(kept, key=lambda run: (order[run.arm], run.seed))


def _say_if_forbidden(asked: Path, error: OSError) -> None:
    """Warn of a folder within that may not be entered; what is merely gone was just being written, or is no folder."""
    if not isinstance(error, PermissionError):
        return
    if Path(error.filename) == asked:
        raise error
    warnings.warn(f"left out: {error.filename}: {error.strerror}", stacklevel=2)


def _is_there(path: Path) -> bool:
    """Whether a name is taken, if only by a link that leads nowhere.

    Raises: PermissionError where that may not be known, which is no to `os.path.lexists`.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def members_there(folder: Path, plan: Mapping[str, Any]) -> set[tuple[str, int]]:
    """Arms and seeds of which a study's folder holds a run, of those in its plan; read from names alone.

    Raises: StorageError.
    """
    with storage.storage_errors(folder):
        places = [info.parent for info in folder.glob(f"*/seed*/{storage.INFO}")]
    seeds = [(place.parent.name, re.fullmatch("seed(0|[1-9][0-9]*)", place.name)) for place in places]
    found = {(arm, int(seed[1])) for arm, seed in seeds if seed}
    return {member for member in found if _has(plan, *member)} or found


def _has(plan: Mapping[str, Any], arm: str, seed: int) -> bool:
    """Whether a plan has an arm and a seed, as far as it is one."""
    arms, seeds = plan.get("arms"), plan.get("seeds")
    return isinstance(arms, dict) and arm in arms and (not isinstance(seeds, list) or seed in seeds)


def by_arm(members: Iterable[tuple[str, int]]) -> str:
    """Name runs by arm and seed: 'a seeds 1, 2; b seed 3'."""
    arms: dict[str, list[str]] = {}
    for arm, seed in members:
        arms.setdefault(arm, []).append(str(seed))
    return "; ".join(f"{arm} seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}" for arm, seeds in arms.items())


def read_plan(file: Path) -> dict[str, Any]:
    """Return the plan of a study; empty for a folder without one.

    Raises: RunError for one that is no TOML; StorageError.
    """
    with storage.storage_errors(file):
        is_there = file.exists()
    try:
        return read_toml(file) if is_there else {}
    except ConfigError as error:
        raise storage.RunError(str(error)) from error


def _what_it_is(path: Path) -> str:
    """Say what a path is in place of a run or a study, and what to name."""
    if not path.exists():
        return "there is no such folder. Name a directory that lrlab train or study made; lrlab runs lists them."
    if path.is_file():
        return "a file, not a run or study. To use what another program recorded, lrlab import it."
    if any(path.glob(f"seed*/{storage.INFO}")):
        return f"an arm, not a run or study. Name the study, {path.parent}, or single runs."
    if any(path.glob(f"*/{storage.INFO}")) or any(path.glob(f"*/*/seed*/{storage.INFO}")):
        return "not a run or study, but it contains some: name them one by one; lrlab runs lists them."
    return "not a run or study. Name a directory that lrlab train or study made; lrlab runs lists them."
