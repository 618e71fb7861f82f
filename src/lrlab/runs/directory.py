"""Whether a run can begin in a directory, or go on in it."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrlab.config import RunConfig, changes_that_matter, read_toml
from lrlab.runs import storage
from lrlab.runs.checkpoints import Checkpoint, DamagedError, checkpoint_paths, read_checkpoint
from lrlab.runs.events import EVENTS_PREFIX
from lrlab.runs.reader import read_info


def check_vacant(directory: Path) -> None:
    """Check that a run can be made in a directory: it is not there yet, or empty.

    Raises: RunError.
    """
    with storage.storage_errors(directory):
        around = next((one for one in directory.absolute().parents if (one / storage.INFO).exists()), None)
    if around is not None:
        raise storage.RunError(f"{directory} is inside another run, {around}. Choose another directory with --run.")
    names = _names(directory)
    if storage.INFO in names:
        raise storage.RunError(
            f"{directory} already holds a run. Choose another directory with --run, or continue it: "
            f"lrlab resume {directory}."
        )
    if names:
        raise storage.RunError(f"{directory} is not empty and holds no run. Choose another directory with --run.")


def check_resumable(directory: Path, config: RunConfig) -> None:
    """Check that the run in a directory can go on: it is not over, and its configuration is the same where it matters.

    A directory that is empty, or that a process left before its first word, will do: there the run begins.

    Raises: RunError.
    """
    names = _names(directory)
    if storage.INFO not in names:
        if not all(name == storage.CONFIG or name.endswith(".tmp") for name in names):
            raise storage.RunError(f"{directory} is not empty and holds no run. Choose another directory with --run.")
        return
    info = read_info(directory)
    status = info["status"]
    if status == "diverged":
        raise storage.RunError(
            f"{directory}: the run diverged, and would diverge again. Train a new run with another configuration."
        )
    # as it was made, whatever was edited since
    made = _beside_the_weights(directory) or read_toml(directory / storage.CONFIG)
    if status == "complete":
        _check_it_has_more_to_do(directory, info, made=made, config=config)
    # older runs do not say whether they were ever saved
    was_saved = info.get("checkpoint", status == "preempted" and bool(storage.part_paths(directory)))
    # it would begin anew, and what is there be lost
    if (status == "complete" or was_saved) and not checkpoint_paths(directory):
        raise storage.RunError(
            f"{directory}: the run is {status} and its checkpoints are gone. Restore one, or train a new run in "
            "another directory."
        )
    if changed := changes_that_matter(made, config):
        raise storage.RunError(
            f"{directory}: the run was made with another configuration ({'; '.join(changed)}). "
            "Undo the change, or train a new run in another directory."
        )


def _check_it_has_more_to_do(
    directory: Path, info: Mapping[str, Any], *, made: Mapping[str, Any], config: RunConfig
) -> None:
    result, threshold = info["result"], config.stop_below_lr
    rate = result.get(storage.FELL_TO)
    is_as_long = (made.get("steps"), made.get("epochs")) == (config.steps, config.epochs)
    # over a longer run it falls later, and may not be below yet where this one ended
    falls_later = config.rate_spans_run and not is_as_long
    if rate is not None and threshold is not None and rate < threshold and not falls_later:
        why, more = "; more updates would change nothing", ""
        if config.rate_spans_run:
            why, more = "", " Or give more --epochs or --steps: in a longer run the planned rate falls later."
        raise storage.RunError(
            f"{directory}: the run ended at update {result['steps']}, since its highest rate, {rate}, had fallen below "
            f"stop_below_lr = {threshold:g}{why}. To continue, --set stop_below_lr={rate} or less, or delete the key "
            f"from {directory / storage.CONFIG}.{more}"
        )
    ended_early = rate is not None and result["steps"] < info["engine"]["num_steps"]
    if not ended_early and is_as_long:
        raise storage.RunError(f"{directory}: the run is complete. To continue it, give more --epochs or --steps.")


def lengthening(checkpoint: Checkpoint, config: RunConfig) -> dict[str, str]:
    """Say, as `longer`, how a configuration makes a run longer than its rate was planned for at a checkpoint of it."""
    made = _configuration_of(checkpoint)
    unit, after = ("epochs", config.epochs) if config.steps is None else ("steps", config.steps)
    # `check_resumable` has seen that the unit is the same
    if made is None or made.get(unit) == after or not config.rate_spans_run:
        return {}
    return {"longer": f"{unit} {made.get(unit)} -> {after}"}


def _beside_the_weights(directory: Path) -> dict[str, Any] | None:
    """The configuration in the newest sound checkpoint; None without one."""
    for path in checkpoint_paths(directory):
        with contextlib.suppress(DamagedError):  # said when the run goes on
            if (made := _configuration_of(read_checkpoint(path))) is not None:
                return made
    return None


def _configuration_of(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The configuration that a run had when it was saved, None where the checkpoint has none that can be read."""
    with contextlib.suppress(KeyError, ValueError):
        return tomllib.loads(checkpoint.files[storage.CONFIG].decode())
    return None


def _names(directory: Path) -> set[str]:
    with storage.storage_errors(directory):
        if not directory.exists():
            return set()
        return {path.name for path in directory.iterdir()} - {storage.LOCK}


def clear(directory: Path) -> None:
    """Delete what a run wrote into a directory, but not its lock, which this process has, nor what was exported.

    run.json goes last: should this be cut short as well, the directory is still known for a run. What else lies there
    is somebody's own.
    """
    with storage.storage_errors(directory):
        for pattern in (*storage.OF_A_RUN, f"{EVENTS_PREFIX}*", storage.TRACKED.format("*"), ".*.tmp", storage.INFO):
            for path in directory.glob(pattern):
                storage.delete(path)
